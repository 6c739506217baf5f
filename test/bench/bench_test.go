package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(partWord) != "" { // the bench starts itself as its parts
		if err := runPart(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Every peer does all that it is said to do, each answer is the right one, and
// every cell of the table has a number. What the numbers are is not looked at.
func TestBrief(t *testing.T) {
	b := bench{scale: scale{brief: true}, rounds: 2, idle: true, settle: time.Second, measures: measures(), progress: t.Output()}
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers() {
		if _, err := p.version(&lab{root: root}); err != nil {
			if os.Getenv("CI") != "" {
				t.Errorf("%s: %v", p.name, err)
			}
			t.Logf("without %s: %v", p.name, err)
			continue
		}
		b.peers = append(b.peers, p)
	}
	r, err := b.run(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(b.measures, idle()) {
		for _, p := range b.peers {
			if !p.has(m.door) || p.name == direct && !m.direct {
				continue
			}
			for _, x := range m.metrics {
				if x.cpu && p.name == direct {
					continue
				}
				want := b.rounds
				if m.name == idle().name {
					want = 1
				}
				if got := len(r.numbers[x.name][p.name]); got != want {
					t.Errorf("%s of %s has %d numbers, want %d", x.name, p.name, got, want)
				}
			}
		}
	}
	if err := r.print(t.Output(), "text"); err != nil {
		t.Error(err)
	}
}
