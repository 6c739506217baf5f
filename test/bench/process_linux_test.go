package main

import (
	"strings"
	"testing"
	"time"
)

// A child's time and memory are the family's too, and one that has ended is
// missed.
func TestFamily(t *testing.T) {
	l := &lab{dir: t.TempDir()}
	one, err := l.start("one", nil, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	defer one.stop()
	two, err := l.start("two", nil, "sh", "-c", `sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo spun; exec sleep 60'; echo over`)
	if err != nil {
		t.Fatal(err)
	}
	defer two.stop()
	for end := time.Now().Add(20 * time.Second); two.tail() != "spun"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the child said %q", two.tail())
		}
	}
	cpu := func(p *process) time.Duration {
		d, err := p.cpuTime()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if idle, busy := cpu(one), cpu(two); idle <= 0 || busy < 2*idle {
		t.Errorf("a sleeper used %s, a child that counted %s", idle, busy)
	}
	parent, err := rollup(two.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	m, err := two.memory()
	if err != nil || m.resident <= parent["Rss"] {
		t.Errorf("two processes have %d bytes, the first of them %d, %v", m.resident, parent["Rss"], err)
	}
	if m.own <= parent["Pss_Anon"] || m.own >= m.resident {
		t.Errorf("two processes have %d bytes of their own, the first of them %d; %d with files", m.own, parent["Pss_Anon"], m.resident)
	}
	one.stop()
	if _, err := one.cpuTime(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("of a process that has ended: %v", err)
	}
}
