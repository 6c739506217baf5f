package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/control"
	"hasp/mesh"
	"hasp/world"
	"hasp/xds/client"
)

// lookForReplicas is how often it is looked whether replicas came or went.
const lookForReplicas = time.Second

// passing tells the other replicas what the proxies connected to this one
// report, so that each can answer for all.
type passing struct {
	self  string // this replica's pod
	port  int    // of xDS, the same for all
	world func() *world.World
	anew  func(context.Context) // has the proxies report from the beginning
	tls   func() *tls.Config
	log   *slog.Logger

	mu sync.Mutex
	to map[netip.Addr]*passingTo
}

// passingTo is one other replica.
type passingTo struct {
	relay *client.Relay
	stop  context.CancelFunc
}

// tell all others. It does not wait.
func (p *passing) tell(r *mesh.Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.to {
		t.relay.Tell(r)
	}
}

// follow the replicas until ctx ends.
func (p *passing) follow(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(lookForReplicas)
	defer tick.Stop()
	for {
		if w := p.world(); w != nil {
			p.look(ctx, w, &running)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look who is there, and no more.
func (p *passing) look(ctx context.Context, w *world.World, running *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[netip.Addr]bool{}
	for _, wl := range replicas(w, p.self) {
		addr := wl.Addresses[0]
		there[addr] = true
		if p.to[addr] != nil {
			continue
		}
		relay, err := client.NewRelay(client.RelayConfig{
			Target: net.JoinHostPort(addr.String(), strconv.Itoa(p.port)), TLS: p.tls, Log: p.log.With(slog.String("replica", wl.Name)), Opened: p.anew,
		})
		if err != nil {
			p.log.Error("reports are not passed on", slog.String("replica", wl.Name), slog.Any("error", err))
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		p.to[addr] = &passingTo{relay, stop}
		running.Go(func() { _ = relay.Run(ctx) })
	}
	for addr, t := range p.to {
		if !there[addr] {
			t.stop()
			delete(p.to, addr)
		}
	}
}

// replicaTLS is how one replica connects to another: both are the control plane.
func replicaTLS(own control.Credentials, id spiffeid.ID) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		// A SPIFFE server has no DNS name: VerifyConnection goes by its identity.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.Certificate()
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the other replica shows no certificate")
			}
			between := x509.NewCertPool()
			for _, up := range cs.PeerCertificates[1:] {
				between.AddCert(up)
			}
			leaf := cs.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: own.Roots(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return fmt.Errorf("the other replica's certificate: %w", err)
			}
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id.String() {
				return fmt.Errorf("the other replica is not %s", id)
			}
			return nil
		},
	}
}
