//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
)

var errPlatform = errors.New("sandbox: needs Linux: pods are made of its namespaces")

// Command needs Linux.
func Command(self string, args []string, files []*os.File, e Enter) (*exec.Cmd, error) {
	return nil, errPlatform
}

// Setup needs Linux.
func Setup(in Inside) error { return errPlatform }

// Probe needs Linux.
func Probe(self string, args ...string) error { return errPlatform }

// ProbeInside needs Linux.
func ProbeInside() error { return errPlatform }

type fabric struct{}

func newFabric() (*fabric, error)                  { return nil, errPlatform }
func (*fabric) attach(a address) (*network, error) { return nil, errPlatform }
func (*fabric) balance(b Balance) error            { return errPlatform }
func (*fabric) close()                             {}

type network struct{ addr address }

func (*network) descriptor() int                                         { return -1 }
func (*network) dial(ctx context.Context, addr string) (net.Conn, error) { return nil, errPlatform }
func (*network) dialAs(ctx context.Context, mark int, addr string) (net.Conn, error) {
	return nil, errPlatform
}
func (*network) close() {}

func (launch) start() (*os.Process, error) { return nil, errPlatform }

func workloadHost() int { return os.Getuid() }

// Watch needs Linux.
func (s *Sandbox) Watch(namespace, name string, look func(packet []byte)) (stop func() (missed int, err error), err error) {
	return nil, errPlatform
}
