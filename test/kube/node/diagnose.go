package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// lastLines of each component's log are told.
const lastLines = 25

// report is a buffer, named for what it holds.
type report = bytes.Buffer

// Diagnose writes what a person asks first when something is wrong: the pods and
// events, and the end of each component's log.
func (n *Node) Diagnose(ctx context.Context, w io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if n.space != nil {
		for _, args := range [][]string{
			{"get", "pods", "-A", "-o", "wide"},
			{"get", "events", "-A", "--sort-by=.metadata.creationTimestamp"},
		} {
			out, err := n.Command(ctx, "kubectl", append(args, "--request-timeout=5s")...).CombinedOutput()
			fmt.Fprintf(w, "== kubectl %s\n%s\n", strings.Join(args, " "), lastOf(string(out), 3*lastLines))
			if err != nil {
				fmt.Fprintln(w, err)
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make([]string, 0, len(n.processes))
	for name := range n.processes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "== the last of %s\n%s\n", n.logFile(name), tail(n.logFile(name), lastLines))
	}
}

// tail is the last lines of a file, cut to what a person reads.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return lastOf(string(b), lines)
}

func lastOf(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), 400)]
	}
	return strings.Join(all, "\n")
}
