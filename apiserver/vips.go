package apiserver

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/storage"
)

// The virtual addresses of Services: 65,536 of each family, paired by their
// last 16 bits, so that 10.96.1.2 and fd96::102 are one Service's.
var (
	vip4 = netip.MustParsePrefix("10.96.0.0/16")
	vip6 = netip.MustParsePrefix("fd96::/112")
)

// firstVIP leaves the low addresses to those who ask for one by name.
const firstVIP = 256

// vips hands out virtual addresses. What is in use is what the store says at
// start, and every create, update and delete since: this process is the only
// one that writes Services.
type vips struct {
	mu   sync.Mutex
	used map[netip.Addr]string // by whom: NAMESPACE/NAME
}

// newVIPs learns what is in use and hooks itself into the store of Services.
func newVIPs(ctx context.Context, s *genericregistry.Store) (*vips, error) {
	v := &vips{used: map[netip.Addr]string{}}
	l, err := s.ListPredicate(ctx, storage.Everything, &metainternal.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the addresses of Services: %w", err)
	}
	for i := range l.(*corev1.ServiceList).Items {
		svc := &l.(*corev1.ServiceList).Items[i]
		v.mark(svc)
	}
	s.BeginCreate, s.BeginUpdate, s.AfterDelete = v.beginCreate, v.beginUpdate, v.afterDelete
	return v, nil
}

func owner(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

func addresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ip := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func (v *vips) mark(s *corev1.Service) {
	for _, a := range addresses(s) {
		v.used[a] = owner(s)
	}
}

func (v *vips) release(s *corev1.Service) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range addresses(s) {
		if v.used[a] == owner(s) {
			delete(v.used, a)
		}
	}
}

func (v *vips) allocate(s *corev1.Service) *field.Error {
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	defaultFamilies(s)
	if headless(s) {
		s.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.asked(s); err != nil {
		return err
	}
	v.choose(s)
	if len(s.Spec.ClusterIPs) < len(s.Spec.IPFamilies) {
		return field.InternalError(field.NewPath("spec", "clusterIPs"), fmt.Errorf("no virtual address is left in %s and %s", vip4, vip6))
	}
	v.mark(s)
	return nil
}

// defaultFamilies: both, unless the Service asks for one. (A cluster's default
// is one; here both always exist.)
func defaultFamilies(s *corev1.Service) {
	if s.Spec.IPFamilyPolicy == nil {
		p := corev1.IPFamilyPolicyPreferDualStack
		if len(s.Spec.IPFamilies) == 1 {
			p = corev1.IPFamilyPolicySingleStack
		}
		s.Spec.IPFamilyPolicy = &p
	}
	if len(s.Spec.IPFamilies) == 0 {
		f := corev1.IPv4Protocol
		if a, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil {
			f = family(a)
		}
		s.Spec.IPFamilies = []corev1.IPFamily{f}
	}
	if *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 1 {
		other := corev1.IPv6Protocol
		if s.Spec.IPFamilies[0] == other {
			other = corev1.IPv4Protocol
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
	}
}

// asked checks the addresses the user names.
func (v *vips) asked(s *corev1.Service) *field.Error {
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	p := field.NewPath("spec", "clusterIPs")
	for i, ip := range s.Spec.ClusterIPs {
		a, err := netip.ParseAddr(ip)
		switch {
		case err != nil:
			return field.Invalid(p.Index(i), ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
		case !vip4.Contains(a) && !vip6.Contains(a):
			return field.Invalid(p, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: the provided IP is not in the valid range: it is %s or %s", ip, vip4, vip6))
		case v.used[a] != "":
			return field.Invalid(p, s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", ip))
		case i >= len(s.Spec.IPFamilies) || family(a) != s.Spec.IPFamilies[i]:
			return field.Invalid(p.Index(i), ip, fmt.Sprintf("expected an address of family %v as indicated by `ipFamilies`", s.Spec.IPFamilies))
		}
	}
	return nil
}

// choose fills in the addresses that are missing, starting from a place that
// the name decides, so that a Service made again gets its old addresses.
func (v *vips) choose(s *corev1.Service) {
	missing := s.Spec.IPFamilies[len(s.Spec.ClusterIPs):]
	h := fnv.New32a()
	h.Write([]byte(owner(s)))
	const room = 1<<16 - firstVIP - 1 // the last one is 10.96.255.255
	for n := range uint32(room) {
		low := firstVIP + (h.Sum32()+n)%room
		if !v.free(missing, low) {
			continue
		}
		for _, f := range missing {
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, vip(f, low).String())
		}
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		return
	}
}

func (v *vips) free(families []corev1.IPFamily, low uint32) bool {
	for _, f := range families {
		if v.used[vip(f, low)] != "" {
			return false
		}
	}
	return true
}

// vip is the address of a family with these last 16 bits.
func vip(f corev1.IPFamily, low uint32) netip.Addr {
	if f == corev1.IPv4Protocol {
		b := vip4.Addr().As4()
		b[2], b[3] = byte(low>>8), byte(low)
		return netip.AddrFrom4(b)
	}
	b := vip6.Addr().As16()
	b[14], b[15] = byte(low>>8), byte(low)
	return netip.AddrFrom16(b)
}
