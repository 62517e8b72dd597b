package honeypot

// Ready reports whether the image of a suite is there.
func (n *Node) Ready(suite string) bool { return n.suiteReady(suite) }
