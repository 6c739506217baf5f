package source

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// list is the objects of one kind in the order of namespace and name. What it gave
// out is never changed.
type list[T metav1.Object] struct {
	by      map[string]T // by NAMESPACE/NAME
	order   []T
	changed map[string]bool // since order was made
}

// set an object, or take it out.
func (l *list[T]) set(o T, gone bool) {
	if l.by == nil {
		l.by, l.changed = map[string]T{}, map[string]bool{}
	}
	key := o.GetNamespace() + "/" + o.GetName()
	l.changed[key] = true
	if gone {
		delete(l.by, key)
	} else {
		l.by[key] = o
	}
}

// fewChanges are put into the order one by one, more by sorting it all.
const fewChanges = 64

// sorted are the objects now, nil when there are none.
func (l *list[T]) sorted() []T {
	switch {
	case len(l.changed) == 0:
	case len(l.by) == 0:
		l.order = nil
	case len(l.changed) > fewChanges:
		l.order = make([]T, 0, len(l.by))
		for _, o := range l.by {
			l.order = append(l.order, o)
		}
		slices.SortFunc(l.order, byName[T])
	default:
		l.order = l.patched()
	}
	clear(l.changed)
	return l.order
}

// patched is a copy of the order with what changed.
func (l *list[T]) patched() []T {
	out := make([]T, 0, len(l.order)+len(l.changed))
	for _, o := range l.order {
		if !l.changed[o.GetNamespace()+"/"+o.GetName()] {
			out = append(out, o)
		}
	}
	for key := range l.changed {
		if o, there := l.by[key]; there {
			i, _ := slices.BinarySearchFunc(out, o, byName[T])
			out = slices.Insert(out, i, o)
		}
	}
	return out
}

func byName[T metav1.Object](a, b T) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}
