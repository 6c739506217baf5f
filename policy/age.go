package policy

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// byAge orders objects as Istio does wherever several of them match: oldest
// first; of the same second, by name, then namespace. An object without a
// creationTimestamp counts as the oldest.
func byAge(a, b metav1.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(
		at.Time.Compare(bt.Time),
		cmp.Compare(a.GetName(), b.GetName()),
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
	)
}

// oldestFirst are those to keep, in a sorted copy: the World's own slices are
// shared. Of a mesh's objects few concern any one question.
func oldestFirst[T metav1.Object](objs []T, keep func(T) bool) []T {
	var out []T
	for _, o := range objs {
		if keep(o) {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b T) int { return byAge(a, b) })
	return out
}

// seniority is why an object lost to an equal one: its age or, born in the same
// second, its name.
func seniority(winner metav1.Object, ref string, loser metav1.Object) string {
	wt, lt := winner.GetCreationTimestamp(), loser.GetCreationTimestamp()
	if wt.Time.Equal(lt.Time) {
		return ref + " is of the same age and comes first by name"
	}
	return ref + " is older"
}
