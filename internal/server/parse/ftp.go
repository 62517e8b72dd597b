package parse

func ftpMessage(message) fact { return fact{} }

func vsftpdMessage(message) fact { return fact{} }

func proftpdMessage(message) fact { return fact{} }

func pureftpdMessage(message) fact { return fact{} }
