package cli

import (
	"fmt"
	"io"
	"sync"
)

// progress shows what a command is doing: one line that is rewritten on a
// terminal, a line a step elsewhere.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	shown    bool
}

func newProgress(w io.Writer, terminal bool) *progress { return &progress{w: w, terminal: terminal} }

func (p *progress) step(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s ...", s)
		p.shown = true
		return
	}
	fmt.Fprintf(p.w, "%s ...\n", s)
}

// done takes the line away again.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
