package compile

import (
	"hash/maphash"
	"maps"
)

// shelves is in how many pieces the parts of a Compiler are kept. A change copies one
// or two of them.
const shelves = 64

// kept are the parts of a Compiler. The next one's are made of them by [kept.next],
// and either copies what both have before it writes to it. It is not safe for
// concurrent use.
type kept struct {
	seed   maphash.Seed
	shelf  [shelves]map[partKey]*Part
	shared [shelves]bool // with another Compiler
	count  int
}

func newKept() *kept { return &kept{seed: maphash.MakeSeed()} }

// of is the shelf for what is about a service or, with the zero one, an address.
func (k *kept) of(key partKey) int {
	if key.host == (hostKey{}) {
		return int(maphash.Comparable(k.seed, key.place.Addr()) % shelves)
	}
	return int(maphash.Comparable(k.seed, key.host) % shelves)
}

func (k *kept) get(key partKey) *Part { return k.shelf[k.of(key)][key] }

// add a part. Where there are too many all others go first.
func (k *kept) add(key partKey, p *Part) {
	if k.count >= maxParts {
		*k = *newKept()
	}
	own := k.own(k.of(key))
	own[key] = p
	k.count++
}

// own is a shelf that may be written to.
func (k *kept) own(i int) map[partKey]*Part {
	switch {
	case k.shelf[i] == nil:
		k.shelf[i] = map[partKey]*Part{}
	case k.shared[i]:
		k.shelf[i] = maps.Clone(k.shelf[i])
	}
	k.shared[i] = false
	return k.shelf[i]
}

// next is a copy without what is about the changes.
func (k *kept) next(d *Changes) *kept {
	for i := range k.shared {
		k.shared[i] = true
	}
	out := *k
	touched := map[int]bool{}
	for h := range d.hosts {
		touched[out.of(partKey{host: h})] = true
	}
	for a := range d.Peers {
		touched[out.of(peerKey(a))] = true
	}
	for i := range touched {
		if out.shelf[i] == nil {
			continue
		}
		own := out.own(i)
		out.count -= len(own)
		maps.DeleteFunc(own, func(key partKey, _ *Part) bool {
			return d.hosts[key.host] || key.host == hostKey{} && d.Peers[key.place.Addr()]
		})
		out.count += len(own)
	}
	return &out
}
