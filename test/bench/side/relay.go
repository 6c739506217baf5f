package main

import (
	"fmt"

	"hasp/proxy/relay"
)

func relayerOf(name string) (relay.Relayer, error) {
	if name == "portable" {
		return relay.Portable{}, nil
	}
	return nil, fmt.Errorf("there is no relay %q", name)
}
