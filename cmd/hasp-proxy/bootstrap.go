package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"hasp/mesh"
)

// maxBootstrap bounds what is read; roots are most of it.
const maxBootstrap = 1 << 20

// readBootstrap reads the bootstrap from a descriptor, once, and closes it: a
// token is in it.
func readBootstrap(fd int) (*mesh.Bootstrap, error) {
	f := os.NewFile(uintptr(fd), "bootstrap")
	if f == nil {
		return nil, fmt.Errorf("bootstrap: descriptor %d is not open", fd)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBootstrap+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("bootstrap: descriptor %d: %w", fd, err)
	case len(data) > maxBootstrap:
		return nil, fmt.Errorf("bootstrap: more than %d bytes", maxBootstrap)
	}
	return parseBootstrap(data)
}

// parseBootstrap reads a bootstrap and checks it. Fields it does not know are
// for newer proxies.
func parseBootstrap(data []byte) (*mesh.Bootstrap, error) {
	b := &mesh.Bootstrap{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	if err := checkBootstrap(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Istio's ports.
const (
	outboundPort = 15001
	inboundPort  = 15006
	adminPort    = 15000
	healthPort   = 15021
	metricsPort  = 15090
)

// checkBootstrap checks what must be there and fills in Istio's ports.
func checkBootstrap(b *mesh.Bootstrap) error {
	for _, f := range []struct{ name, value string }{
		{"node", b.Node}, {"identity", b.Identity}, {"controlPlane", b.ControlPlane},
		{"controlPlaneID", b.ControlPlaneID}, {"roots", b.Roots + b.RootsFile},
	} {
		if f.value == "" {
			return fmt.Errorf("bootstrap: %s is missing", f.name)
		}
	}
	if b.Role != mesh.RoleSidecar && b.Role != mesh.RoleGateway {
		return fmt.Errorf("bootstrap: role %q: it is sidecar or gateway", b.Role)
	}
	if b.CertLifetime < 0 || b.Mark < 0 {
		return errors.New("bootstrap: certLifetime and mark are not negative")
	}
	for _, p := range []struct {
		port *uint16
		def  uint16
	}{{&b.OutboundPort, outboundPort}, {&b.InboundPort, inboundPort}, {&b.AdminPort, adminPort}, {&b.HealthPort, healthPort}, {&b.MetricsPort, metricsPort}} {
		if *p.port == 0 {
			*p.port = p.def
		}
	}
	return nil
}

// inherited makes listeners of the descriptors a gateway was given.
func inherited(fds map[uint16]int) (map[uint16]net.Listener, error) {
	out := make(map[uint16]net.Listener, len(fds))
	for port, fd := range fds {
		f := os.NewFile(uintptr(fd), fmt.Sprintf("port %d", port))
		if f == nil {
			return nil, fmt.Errorf("bootstrap: inherited[%d]: descriptor %d is not open", port, fd)
		}
		ln, err := net.FileListener(f)
		f.Close() // FileListener has its own
		if err != nil {
			return nil, fmt.Errorf("bootstrap: inherited[%d]: descriptor %d is no listening socket: %w", port, fd, err)
		}
		out[port] = ln
	}
	return out, nil
}
