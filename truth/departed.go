package truth

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"hasp/mesh"
	"hasp/world"
)

const (
	// rememberDeparted is for how long it is known who was at an address: what a
	// proxy reports happened a moment ago, and a pod may be gone as soon as it has
	// had its answer.
	rememberDeparted = 10 * time.Minute
	maxDeparted      = 10_000
)

// departed is a workload that is in the World no more, or has other addresses
// now.
type departed struct {
	Party
	at        time.Time // when that was seen
	addresses []netip.Addr
}

// See a new World. Whoever builds Worlds says so for each, as the Book remembers
// who was in those before; Take does it too.
func (b *Book) See(w *world.World, now time.Time) {
	if w == nil || w == b.seen {
		return
	}
	old := b.seen
	b.seen = w
	for _, wl := range w.Ended {
		if b.departed[wl.Key()] == nil { // it may never have been seen to run
			b.departed[wl.Key()] = &departed{Party: partyOf(w, wl), at: now, addresses: wl.Addresses}
		}
	}
	if old == nil {
		return
	}
	world.Changes(old.Workloads, w.Workloads, world.ByName, func(wl *mesh.Workload) {
		is := w.Workload(wl.Key())
		if len(wl.Addresses) == 0 || wl.HostNetwork || is != nil && slices.Equal(is.Addresses, wl.Addresses) {
			return
		}
		b.departed[wl.Key()] = &departed{Party: partyOf(old, wl), at: now, addresses: wl.Addresses}
	}, func(*mesh.Workload) {})
	b.forgetDeparted(now)
}

// forgetDeparted drops those that left too long ago, and more if there are too
// many.
func (b *Book) forgetDeparted(now time.Time) {
	var left []*departed
	for key, d := range b.departed {
		if now.Sub(d.at) > rememberDeparted {
			delete(b.departed, key)
			continue
		}
		left = append(left, d)
	}
	if len(left) <= maxDeparted {
		return
	}
	slices.SortFunc(left, func(x, y *departed) int {
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.Workload, y.Workload))
	})
	for _, d := range left[:len(left)-maxDeparted] {
		delete(b.departed, d.Workload)
	}
}

// whoIs is the workload at an address, "" for nobody's: the one that the proxy
// claims if it was there until lately, else the one that is there now.
func (b *Book) whoIs(a netip.Addr, claim string) string {
	a = a.Unmap()
	if d := b.departed[claim]; d != nil && slices.ContainsFunc(d.addresses, func(o netip.Addr) bool { return o.Unmap() == a }) {
		return claim
	}
	if b.seen == nil {
		return ""
	}
	if wl, _ := b.seen.At(a); wl != nil {
		return wl.Key()
	}
	return ""
}

// know remembers a workload that a line names, for when it is no more. It
// reports false for one that never was.
func (b *Book) know(w *world.World, key string) bool {
	var wl *mesh.Workload
	if w != nil {
		wl = w.Workload(key)
	}
	switch d := b.departed[key]; {
	case wl != nil:
		b.known[key] = partyOf(w, wl)
	case d != nil:
		b.known[key] = d.Party
	}
	_, known := b.known[key]
	return known
}
