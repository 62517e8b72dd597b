package mysql

// Native answers a challenge.
func Native(password string, challenge []byte) []byte { return native(password, challenge) }

// ReadChallenge reads a greeting.
func ReadChallenge(body []byte) []byte {
	g, _ := readGreeting(body)
	return g.challenge
}

// ReadSwitch reads a server's wish for another method.
func ReadSwitch(body []byte) (plugin string, challenge []byte) { return readSwitch(body) }

// LoginBody is an answer to a greeting.
func LoginBody(account, plugin string, response []byte) []byte {
	const caps = capProtocol41 | capSecure | capPlugin
	fixed := make([]byte, responseFixedPart)
	fixed[0], fixed[1], fixed[2] = byte(caps&0xff), byte(caps>>8&0xff), byte(caps>>16)
	fixed[7], fixed[8] = 1, 33 // packets of 16 MiB, UTF-8
	return login{caps: caps, fixed: fixed, account: []byte(account)}.with(response, plugin)
}
