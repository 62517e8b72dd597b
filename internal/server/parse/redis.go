package parse

func redisMessage(message) fact { return fact{} }
