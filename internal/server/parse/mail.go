package parse

func postfixMessage(message) fact { return fact{} }

func dovecotMessage(message) fact { return fact{} }
