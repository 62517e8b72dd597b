// Package deploy holds what is installed on other machines beside the binaries.
package deploy

import "embed"

// Rsyslog are the snippets for rsyslog: rsyslog/kokkuri.conf of a host (made by RsyslogConfig from kokkuri.conf.tmpl),
// rsyslog/kokkuri-central.conf of a log server.
//
//go:embed rsyslog/*.conf rsyslog/*.tmpl
var Rsyslog embed.FS
