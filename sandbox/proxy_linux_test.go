package sandbox

func fakeProxy() int { return 1 }
