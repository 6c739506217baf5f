package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// ttl of answers, in seconds: pods come and go.
const ttl = 5

// resolver answers the pods' DNS questions, from the current zone and, for
// names outside the cluster, from extra. It asks no other server.
type resolver struct {
	zone  atomic.Pointer[zone]
	extra func(name string) []netip.Addr // nil: no other names
}

func newResolver(extra func(string) []netip.Addr) *resolver {
	r := &resolver{extra: extra}
	r.zone.Store(zoneOf(nil, nil))
	return r
}

// dnsSockets are where the resolver listens.
type dnsSockets struct {
	packets []net.PacketConn
	streams []net.Listener
}

func listenDNS(addrs ...netip.Addr) (*dnsSockets, error) {
	s := new(dnsSockets)
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, 53).String()
		p, err := net.ListenPacket("udp", at)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("sandbox: DNS: %w", err)
		}
		s.packets = append(s.packets, p)
		l, err := net.Listen("tcp", at)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("sandbox: DNS: %w", err)
		}
		s.streams = append(s.streams, l)
	}
	return s, nil
}

func (s *dnsSockets) close() {
	for _, p := range s.packets {
		p.Close()
	}
	for _, l := range s.streams {
		l.Close()
	}
}

// serve answers until ctx ends, and closes the sockets.
func (r *resolver) serve(ctx context.Context, s *dnsSockets) error {
	var servers []*dns.Server
	for _, p := range s.packets {
		servers = append(servers, &dns.Server{PacketConn: p, Handler: r})
	}
	for _, l := range s.streams {
		servers = append(servers, &dns.Server{Listener: l, Handler: r})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		g.Go(func() error {
			defer close(ended)
			if err := srv.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("sandbox: DNS: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			select { // a server that never started cannot be shut down
			case <-started:
				_ = srv.Shutdown()
			case <-ended:
			}
			return nil
		})
	}
	err := g.Wait()
	s.close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ServeDNS answers one question.
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := r.answer(q)
	size := dns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), 1232)
			m.SetEdns0(uint16(size), false)
		}
	}
	m.Truncate(size)
	_ = w.WriteMsg(m) // the asker went away
}

// answer is the answer to q: a pure function of the zone.
func (r *resolver) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	if len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return m.SetRcode(q, dns.RcodeNotImplemented)
	}
	z, ask := r.zone.Load(), q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(ask.Name, "."))
	owner := ask.Name
	// An alias may lead to an alias; a circle leads nowhere.
	for range 8 {
		target, ok := z.alias[name]
		if !ok {
			break
		}
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: dns.Fqdn(target)})
		name, owner = target, dns.Fqdn(target)
	}
	addrs, found := r.addresses(z, name)
	switch ask.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		m.Answer = append(m.Answer, addressRecords(owner, ask.Qtype, addrs)...)
	case dns.TypeSRV:
		for _, s := range z.srv[name] {
			m.Answer = append(m.Answer, &dns.SRV{Hdr: header(owner, dns.TypeSRV), Weight: 100, Port: s.port, Target: dns.Fqdn(s.target)})
			m.Extra = append(m.Extra, addressRecords(dns.Fqdn(s.target), dns.TypeA, z.addrs[s.target])...)
			m.Extra = append(m.Extra, addressRecords(dns.Fqdn(s.target), dns.TypeAAAA, z.addrs[s.target])...)
		}
	}
	if !found && len(m.Answer) == 0 {
		m.Rcode = dns.RcodeNameError
	}
	return m
}

func (r *resolver) addresses(z *zone, name string) (addrs []netip.Addr, found bool) {
	if z.has(name) {
		return z.addrs[name], true
	}
	if r.extra != nil && !inCluster(name) {
		addrs = r.extra(name)
	}
	return addrs, len(addrs) > 0
}

func addressRecords(owner string, kind uint16, addrs []netip.Addr) []dns.RR {
	var out []dns.RR
	for _, a := range addrs {
		switch {
		case a.Is4() && kind == dns.TypeA:
			out = append(out, &dns.A{Hdr: header(owner, kind), A: a.AsSlice()})
		case a.Is6() && kind == dns.TypeAAAA:
			out = append(out, &dns.AAAA{Hdr: header(owner, kind), AAAA: a.AsSlice()})
		}
	}
	return out
}

func header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}
