package apiserver_test

func serveForever(string) {}
