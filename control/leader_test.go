package control_test

import (
	"context"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/control"
)

// reconciled is what the condition of an object says: status and reason.
func (p *plane) reconciled(t *testing.T, u *unstructured.Unstructured) string {
	t.Helper()
	got, err := p.resource(t, u).Get(context.Background(), u.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
	if len(conditions) != 1 {
		return ""
	}
	c := conditions[0].(map[string]any)
	return c["status"].(string) + " " + c["reason"].(string)
}

// Of several control planes one writes statuses, and only when it leads; an
// object is reconciled when the others' proxies have it too, and the others have
// seen it at all.
func TestStatusOfSeveral(t *testing.T) {
	var others atomic.Pointer[[]control.Progress]
	others.Store(&[]control.Progress{{Objects: "none yet"}})
	p := startAs(t, func(c *control.Config) {
		c.StatusByLeader = true
		c.Others = func(context.Context) []control.Progress { return *others.Load() }
	}, strict)
	policy := parse(t, strict)
	if got := p.reconciled(t, policy); got != "" {
		t.Errorf("a follower wrote %q", got)
	}
	run(t, "the leader's duty", p.WriteStatus)
	wait(t, "the other has not seen the object", func() bool { return p.reconciled(t, policy) == "False Pending" })

	seen := p.Progress().Objects
	others.Store(&[]control.Progress{{Objects: seen, Behind: true}})
	if got := p.reconciled(t, policy); got != "False Pending" {
		t.Errorf("%q while proxies of the other are behind", got)
	}
	others.Store(&[]control.Progress{{Objects: seen}})
	wait(t, "all have it", func() bool { return p.reconciled(t, policy) == "True Acknowledged" })
}

// What cannot serve is refused before it starts.
func TestWithoutAnAuthority(t *testing.T) {
	_, err := control.New(control.Config{})
	if want := "control: without an authority it needs credentials and a trust domain"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
