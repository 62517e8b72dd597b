package parse

func mysqlMessage(message) fact { return fact{} }
