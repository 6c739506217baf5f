package meshtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Host is what a mesh could leave behind on a machine.
type Host struct {
	Links      string // ip link
	Ruleset    string // nft list ruleset
	Namespaces string // /run/netns
	Temporary  string // hasp-* in the user's temporary directory
}

// New is what is there now and was not before, a line each.
func (h Host) New(before Host) (lines []string) {
	for _, pair := range [][2]string{{h.Links, before.Links}, {h.Ruleset, before.Ruleset}, {h.Namespaces, before.Namespaces}, {h.Temporary, before.Temporary}} {
		was := strings.Split(pair[1], "\n")
		for _, line := range strings.Split(pair[0], "\n") {
			if !slices.Contains(was, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Host looks at the machine outside the mesh. An ordinary user's test cannot
// read the ruleset, and could not leave anything in it either.
func (m *Mesh) Host(t testing.TB) Host {
	t.Helper()
	Need(t, "ip", "nft")
	var h Host
	h.Links = output(t, "ip", "-o", "link", "show")
	if os.Geteuid() == 0 {
		h.Ruleset = output(t, "nft", "-s", "list", "ruleset") // without counters, which the host's own traffic moves
	}
	h.Namespaces = strings.Join(names(t, "/run/netns"), "\n")
	for _, name := range names(t, filepath.Join(m.home, "tmp")) {
		if strings.HasPrefix(name, "hasp-") {
			h.Temporary += name + "\n"
		}
	}
	return h
}

func output(t testing.TB, argv ...string) string {
	t.Helper()
	b, err := exec.CommandContext(context.Background(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, b)
	}
	return string(b)
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
