package meshtest

import (
	"strings"
	"testing"
)

// What a client printed and how it ended arrives once and as it was, from inside
// the mesh and outside, by every user.
func TestClient(t *testing.T) {
	EachUser(t, func(t *testing.T, u User) {
		m := Start(t, Options{User: u})
		for _, c := range []Client{
			{Name: "outsider", Command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}},
			{Name: "meshed", Meshed: true, Command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}},
		} {
			r := m.Client(t, c)
			// A log has both outputs in one, in either order.
			if r.Exit != 7 || strings.Count(r.Output(), "out\n") != 1 || strings.Count(r.Output(), "err\n") != 1 {
				t.Errorf("%s: exit status %d, stdout %q, stderr %q", c.Name, r.Exit, r.Stdout, r.Stderr)
			}
		}
		if r := m.Client(t, Client{Name: "nowhere", Command: []string{"no-such-program"}}); r.Exit == 0 || !strings.Contains(r.Output(), "no-such-program") {
			t.Errorf("a program that is not there: exit status %d, %s", r.Exit, r.Output())
		}
	})
}
