package parse

func loginMessage(message) fact { return fact{} }
