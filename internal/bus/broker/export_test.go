package broker

// Credentials returns the user and password of the in-process connections, for tests that try them elsewhere.
func (b *Broker) Credentials() (users []string, password string) {
	return []string{userServer, userAuth}, b.secret
}

// PortOwner lets tests name the owner of a port without starting a broker.
func PortOwner(port uint16) string { return portOwner("/proc", port) }
