package sandbox

import (
	"errors"
	"net/netip"
	"sync"
)

// The sandbox's addresses: one fabric, its pods, and the Services' virtual
// addresses (which the API server hands out).
var (
	// Gateway is the fabric's own address, where DNS and the control plane are.
	Gateway  = netip.MustParseAddr("10.77.0.1")
	Gateway6 = netip.MustParseAddr("fd77::1")
	// PodRange and PodRange6 hold the pods.
	PodRange  = netip.MustParsePrefix("10.77.0.0/16")
	PodRange6 = netip.MustParsePrefix("fd77::/64")
	// ServiceRange and ServiceRange6 hold the Services.
	ServiceRange  = netip.MustParsePrefix("10.96.0.0/16")
	ServiceRange6 = netip.MustParsePrefix("fd96::/112")
)

// address is the place of a pod on the fabric: 10.77.x.y and fd77::N, where N
// is the number x*256+y. Numbers 0, 1 (the gateway), 65534 (hairpin) and 65535
// are no pod's.
type address uint16

const (
	firstAddress address = 2
	lastAddress  address = 65533
	// hairpin stands for a pod that calls itself through a Service. Nobody has it,
	// so that what comes from Gateway is of this process alone.
	hairpin address = 65534
)

func (a address) v4() netip.Addr {
	b := PodRange.Addr().As4()
	b[2], b[3] = byte(a>>8), byte(a)
	return netip.AddrFrom4(b)
}

func (a address) v6() netip.Addr {
	b := PodRange6.Addr().As16()
	b[14], b[15] = byte(a>>8), byte(a)
	return netip.AddrFrom16(b)
}

// addresses hands out addresses, going round, so that one just given back is
// not given out again while somebody may still think it is the old pod.
type addresses struct {
	mu   sync.Mutex
	used map[address]bool
	next address
}

func (p *addresses) take() (address, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == nil {
		p.used, p.next = make(map[address]bool), firstAddress
	}
	for range int(lastAddress-firstAddress) + 1 {
		a := p.next
		if p.next++; p.next > lastAddress {
			p.next = firstAddress
		}
		if !p.used[a] {
			p.used[a] = true
			return a, nil
		}
	}
	return 0, errors.New("sandbox: all 65532 pod addresses are in use")
}

func (p *addresses) giveBack(a address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, a)
}
