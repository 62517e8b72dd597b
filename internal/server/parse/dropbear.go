package parse

func dropbearMessage(message) fact { return fact{} }
