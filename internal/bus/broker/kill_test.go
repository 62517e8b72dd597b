package broker_test

func runChild() bool { return false }
