package world

import (
	"cmp"
	"slices"

	"hasp/mesh"
)

// ByName is the order of a World's Workloads and Ended.
func ByName(a, b *mesh.Workload) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// ByHostname is the order of a World's Services. Several may have the same
// hostname in one namespace.
func ByHostname(a, b *mesh.Service) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resolution, b.Resolution))
}

// Changes of a list in an order: gone is called for what is in old alone, then came
// for what is in now alone. What both have is one pointer, so that two Worlds of
// which one was made of the other are compared at a glance; what is equal without
// being the same has gone and come.
func Changes[T any](old, now []*T, order func(a, b *T) int, gone, came func(*T)) {
	var fresh []*T
	for len(old) > 0 && len(now) > 0 {
		if old[0] == now[0] {
			old, now = old[1:], now[1:]
			continue
		}
		o := order(old[0], now[0])
		if o <= 0 {
			gone(old[0])
			old = old[1:]
		}
		if o >= 0 {
			fresh = append(fresh, now[0])
			now = now[1:]
		}
	}
	for _, v := range old {
		gone(v)
	}
	for _, list := range [][]*T{fresh, now} {
		for _, v := range list {
			came(v)
		}
	}
}

// ofNamespace is the part of a sorted list that one namespace has.
func ofNamespace[T any](list []*T, namespace string, of func(*T) string) []*T {
	find := func(namespace string, from int) int {
		i, _ := slices.BinarySearchFunc(list, namespace, func(v *T, n string) int {
			if c := cmp.Compare(of(v), n); c != 0 {
				return c
			}
			return from
		})
		return i
	}
	return list[find(namespace, 1):find(namespace, -1)]
}
