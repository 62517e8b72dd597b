package parse

func httpMessage(message) fact { return fact{} }
