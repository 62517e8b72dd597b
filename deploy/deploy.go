// Package deploy holds what is installed on other machines beside the binaries.
package deploy

import "embed"

// Rsyslog are the snippets for rsyslog: rsyslog/kokkuri.conf of a host, rsyslog/kokkuri-central.conf of a log server.
//
//go:embed rsyslog/*.conf
var Rsyslog embed.FS
