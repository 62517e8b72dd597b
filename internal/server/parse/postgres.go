package parse

func postgresMessage(message) fact { return fact{} }
