package api

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// captureReader reads a pod's annotations about capture and gathers what is
// wrong with them.
type captureReader struct {
	annotations map[string]string
	errs        []error
}

func (r *captureReader) fail(key, format string, args ...any) {
	r.errs = append(r.errs, WrongAnnotation(key, r.annotations[key], format, args...))
}

// CaptureAnnotations are the annotations that PlanCapture follows, sorted.
func CaptureAnnotations() []string {
	return []string{
		ExcludeInboundPortsKey, ExcludeOutboundRangesKey, ExcludeOutboundPortsKey,
		IncludeInboundPortsKey, IncludeOutboundRangesKey, IncludeOutboundPortsKey,
	}
}

// unsupported refuses what would leave traffic where the pod does not want it:
// a misspelt annotation, or one of Istio's that is not followed here.
func (r *captureReader) unsupported() {
	var names []string
	for _, key := range CaptureAnnotations() {
		names = append(names, strings.TrimPrefix(key, captureDomain))
	}
	for _, key := range slices.Sorted(maps.Keys(r.annotations)) {
		name, ours := strings.CutPrefix(key, captureDomain)
		if !ours || slices.Contains(names, name) {
			continue
		}
		if near := nearest(name, names, 2); near != "" {
			r.fail(key, "hasp knows no such annotation; did you mean %s?", captureDomain+near)
		} else {
			r.fail(key, "hasp does not support this annotation; remove it")
		}
	}
	if mode := r.annotations[InterceptionModeKey]; mode != "" && mode != "REDIRECT" {
		r.fail(InterceptionModeKey, "connections are captured by REDIRECT only; remove the annotation")
	}
}

// included reads a list that may say "*"; nil is everything, which is what holds
// without the annotation.
func included[T any](r *captureReader, key string, read func(string) []T) []T {
	if v, ok := r.annotations[key]; !ok || strings.TrimSpace(v) == "*" {
		return nil
	}
	if list := read(key); list != nil {
		return list
	}
	return []T{}
}

// ports reads a list of ports, separated by commas.
func (r *captureReader) ports(key string) []uint16 {
	var out []uint16
	for _, s := range words(r.annotations[key]) {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			r.fail(key, "%q is not a port; write numbers from 1 to 65535, separated by commas", s)
			return nil
		}
		out = append(out, uint16(n))
	}
	return distinct(out)
}

// ranges reads a list of address ranges, separated by commas. 10.1.2.3/8 means
// 10.0.0.0/8, and ::ffff:10.0.0.0/104 the same.
func (r *captureReader) ranges(key string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range words(r.annotations[key]) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			hint := "write ranges like 10.0.0.0/8 or 2001:db8::/32, separated by commas"
			if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
				hint = "write " + netip.PrefixFrom(a, a.BitLen()).String()
			}
			r.fail(key, "%q is not an address range; %s", s, hint)
			return nil
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func (r *captureReader) portConflicts(include string, in []uint16, exclude string, out []uint16) {
	for _, p := range in {
		if slices.Contains(out, p) {
			r.fail(exclude, "%s includes port %d (%q); keep one of them", include, p, r.annotations[include])
		}
	}
}

// rangeConflicts finds included ranges of which the excluded ones leave nothing.
func (r *captureReader) rangeConflicts(in, out []netip.Prefix) {
	for _, i := range in {
		for _, o := range out {
			if o.Bits() <= i.Bits() && o.Contains(i.Addr()) {
				r.fail(ExcludeOutboundRangesKey, "%s includes %s (%q), of which this leaves nothing; keep one of them",
					IncludeOutboundRangesKey, i, r.annotations[IncludeOutboundRangesKey])
			}
		}
	}
}

// words cuts a comma-separated list.
func words(s string) []string {
	var out []string
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
