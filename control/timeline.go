package control

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
)

const (
	// maxChanges bounds the timeline.
	maxChanges = 512
	// maxSeeds are those of it that a control plane that starts knows by the
	// objects' own dates.
	maxSeeds = 50
)

// timeline is what became of the mesh's objects, oldest first.
type timeline struct {
	mu    sync.Mutex
	list  []truth.Change
	known map[string]known // by object; nil before the first World
}

// known is an object as it was when it was last looked at.
type known struct {
	object mesh.Origin
	mark   string
}

// compare the objects with those before, and report whether any differ. Those of
// the first time are not news: the newest are listed under their own dates.
func (t *timeline) compare(read *source.Objects, generation uint64, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first, before := t.known == nil, t.known
	t.known = map[string]known{}
	var news []truth.Change
	for kind, m := range dated(read) {
		o := mesh.Origin{Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName()}
		k := known{o, markOf(m)}
		t.known[o.String()] = k
		old, there := before[o.String()]
		if there && old.mark == k.mark {
			continue
		}
		who, written := writer(m)
		c := truth.Change{At: now, Generation: generation, Object: o, Verb: "created", Who: who, What: says(m)}
		if first {
			c.At, c.Generation = written, 0
		}
		if there || first && written.After(m.GetCreationTimestamp().Time) {
			c.Verb = "changed"
		}
		news = append(news, c)
	}
	for key, old := range before {
		if _, there := t.known[key]; !there {
			news = append(news, truth.Change{At: now, Generation: generation, Object: old.object, Verb: "deleted"})
		}
	}
	slices.SortFunc(news, func(a, b truth.Change) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Object.String(), b.Object.String()))
	})
	if first && len(news) > maxSeeds {
		news = news[len(news)-maxSeeds:]
	}
	t.list = append(t.list, news...)
	if n := len(t.list) - maxChanges; n > 0 {
		t.list = slices.Delete(t.list, 0, n)
	}
	return len(news) > 0
}

// enforced marks what came with the generations up to the given one.
func (t *timeline) enforced(generation uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.list {
		if c := &t.list[i]; c.Generation != 0 && c.Generation <= generation && c.Enforced.IsZero() {
			c.Enforced = at
		}
	}
}

// newest first.
func (t *timeline) newest() []truth.Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.list)
	slices.Reverse(out)
	return out
}

// dated are the objects whose changes people ask about: those that have a
// status, and the mesh's settings.
func dated(read *source.Objects) func(func(string, metav1.Object) bool) {
	return func(yield func(string, metav1.Object) bool) {
		for _, k := range statusKinds() {
			for _, m := range k.of(read) {
				if !yield(k.kind, m) {
					return
				}
			}
		}
		for _, m := range read.ConfigMaps {
			if m.Name == api.MeshConfigName && m.Namespace == api.DefaultMeshConfig().RootNamespace && !yield("ConfigMap", m) {
				return
			}
		}
	}
}

// markOf an object differs whenever what it asks for does.
func markOf(m metav1.Object) string {
	if m.GetGeneration() != 0 { // the API server counts
		return fmt.Sprint(m.GetUID(), " ", m.GetGeneration())
	}
	b, _ := json.Marshal(specOf(m)) // fails for nothing that was decoded
	return fmt.Sprintf("%s %x", m.GetUID(), sha256.Sum256(b))
}

// writer is who wrote last, and when.
func writer(m metav1.Object) (string, time.Time) {
	for _, e := range m.GetManagedFields() { // the newest is all that is kept
		if e.Time != nil {
			return e.Manager, e.Time.Time
		}
	}
	return "", m.GetCreationTimestamp().Time
}
