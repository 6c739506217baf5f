package main

import (
	"fmt"

	"hasp/proxy/relay"
)

// relayerOf is what hasp-proxy makes of the word: nil is the proxy's own.
func relayerOf(name string) (relay.Relayer, error) {
	switch name {
	case "fast":
		return nil, nil
	case "portable":
		return relay.Portable{}, nil
	}
	return nil, fmt.Errorf("-relay %q: it is fast or portable", name)
}
