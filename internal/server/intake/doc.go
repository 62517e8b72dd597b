// Package intake takes log lines from syslog daemons and from files that they wrote on the server, and hands on those that prove whose they are.
//
// A line counts as a host's only where it came from an address of that host and names it: of the other lines the numbers
// and the last few are kept to be looked at. While the bus does not acknowledge, nothing more is read, so that a sender's
// queue and not ours holds what waits.
package intake
