package sandbox

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

func testResolver() *resolver {
	named := corev1.ServicePort{Name: "http", Port: 80}
	host := testPod("db-0", "db", true, "10.77.0.4", "fd77::4")
	host.Spec.Hostname, host.Spec.Subdomain = "db-0", "db"
	away := testService("away", "", named, "")
	away.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "Example.com."}
	circle := testService("circle", "", named, "")
	circle.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "circle.shop.svc.cluster.local"}
	inside := testService("inside", "", named, "")
	inside.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.shop.svc.cluster.local"}
	r := newResolver(func(name string) []netip.Addr {
		if name == "example.com" {
			return []netip.Addr{netip.MustParseAddr("240.0.0.1")}
		}
		return nil
	})
	r.zone.Store(zoneOf([]*corev1.Service{
		testService("web", "web", named, "10.96.0.1", "fd96::1"),
		testService("v4only", "web", named, "10.96.0.2"),
		testService("db", "db", named, corev1.ClusterIPNone),
		testService("empty", "nobody", named, corev1.ClusterIPNone),
		away, inside, circle,
	}, []*corev1.Pod{testPod("x", "db", true, "10.77.0.3", "fd77::3"), host, testPod("sick", "db", false, "10.77.0.5")}))
	return r
}

func TestDNSAnswers(t *testing.T) {
	r := testResolver()
	for _, c := range []struct {
		name string
		kind uint16
		want string // rcode, then the answers
	}{
		{"web.shop.svc.cluster.local.", dns.TypeA, "NOERROR A 10.96.0.1"},
		{"WEB.Shop.svc.cluster.local.", dns.TypeA, "NOERROR A 10.96.0.1"},
		{"web.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR AAAA fd96::1"},
		{"v4only.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR"},
		{"web.shop.svc.cluster.local.", dns.TypeMX, "NOERROR"},
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR SRV 0 100 80 web.shop.svc.cluster.local."},
		{"_grpc._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"db.shop.svc.cluster.local.", dns.TypeA, "NOERROR A 10.77.0.3 A 10.77.0.4"},
		{"db-0.db.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR AAAA fd77::4"},
		{"10-77-0-3.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR A 10.77.0.3"},
		{"_http._tcp.db.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR SRV 0 100 80 10-77-0-3.db.shop.svc.cluster.local. SRV 0 100 80 db-0.db.shop.svc.cluster.local."},
		{"empty.shop.svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"away.shop.svc.cluster.local.", dns.TypeA, "NOERROR CNAME example.com. A 240.0.0.1"},
		{"inside.shop.svc.cluster.local.", dns.TypeA, "NOERROR CNAME web.shop.svc.cluster.local. A 10.96.0.1"},
		{"example.com.", dns.TypeA, "NOERROR A 240.0.0.1"},
		{"example.com.", dns.TypeAAAA, "NOERROR"},
		{"example.org.", dns.TypeA, "NXDOMAIN"},
		{"web.other.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"web.", dns.TypeA, "NXDOMAIN"},
		{".", dns.TypeNS, "NXDOMAIN"},
	} {
		t.Run(dns.TypeToString[c.kind]+" "+c.name, func(t *testing.T) {
			m := r.answer(new(dns.Msg).SetQuestion(c.name, c.kind))
			got := []string{dns.RcodeToString[m.Rcode]}
			for _, rr := range m.Answer {
				got = append(got, dns.TypeToString[rr.Header().Rrtype]+strings.TrimPrefix(rr.String(), rr.Header().String()[:len(rr.Header().String())-len(dns.TypeToString[rr.Header().Rrtype])-1]+dns.TypeToString[rr.Header().Rrtype]))
			}
			if text := strings.Join(strings.Fields(strings.Join(got, " ")), " "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

// TestDNSCircle: aliases that lead to each other end.
func TestDNSCircle(t *testing.T) {
	m := testResolver().answer(new(dns.Msg).SetQuestion("circle.shop.svc.cluster.local.", dns.TypeA))
	if len(m.Answer) != 8 {
		t.Errorf("%d answers, want the 8 aliases that are followed", len(m.Answer))
	}
}

func FuzzDNSAnswer(f *testing.F) {
	for _, name := range []string{"web.shop.svc.cluster.local.", "circle.shop.svc.cluster.local.", "."} {
		b, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := testResolver()
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		m := r.answer(q)
		m.Truncate(dns.MinMsgSize)
		if out, err := m.Pack(); err == nil && len(out) > dns.MinMsgSize && len(q.Question) == 1 {
			t.Errorf("an answer of %d bytes", len(out))
		}
	})
}
