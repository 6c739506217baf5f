package main

import (
	"strings"
	"testing"
	"time"
)

// The document says what is missed, and compares only what was measured.
func TestDocument(t *testing.T) {
	b := &bench{rounds: 3, scale: scale{length: time.Second}, idle: true}
	if err := b.choose("direct,hasp,haproxy-tcp,envoy-http", "saturated,bulk"); err != nil {
		t.Fatal(err)
	}
	r := &report{
		machine: machine{cpu: "a CPU", cores: 2, kernel: "6.1", distro: "Debian", load: "0.00"}, started: time.Unix(0, 0), took: time.Minute,
		bench: b, version: map[string]string{"hasp": "commit 1", "haproxy-tcp": "2.6", "envoy-http": "1.40"}, numbers: numbers{},
	}
	for peer, v := range map[string]float64{"hasp": 20, "haproxy-tcp": 30, "envoy-http": 30} {
		for i := range 3 {
			r.numbers.add("saturated", peer, v+float64(i))
		}
	}
	r.numbers.add("bulk", "hasp", 1)
	doc := r.document()
	for _, want := range []string{
		"| machine | a CPU, 2 cores; Linux 6.1, Debian |\n",
		"| when | 1970-01-01 00:00 UTC, 1m0s, load average 0.00 before |\n",
		"| haproxy-tcp | 2.6 |\n",
		"| hasp | 21.0 (20.0-22.0) | - |\n",
		"| request, saturated | 0.68 | 0.68 |\n",
		"| request, saturated | 0.68 of 0.80 | **0.68 of 0.50** |\n",
		"| bulk, a GB | - | - |\n",
		"## How each is configured\n",
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("the document lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(doc)
	}
	if empty := (&report{bench: b}).document(); !strings.Contains(empty, "no numbers yet") || strings.Contains(empty, "## Requests") {
		t.Error("without numbers there are some:\n" + empty)
	}
}

// Every aim is about a metric that is measured, and a peer that is there.
func TestAims(t *testing.T) {
	b := &bench{}
	if err := b.choose("", ""); err != nil {
		t.Fatal(err)
	}
	r := &report{bench: b}
	there := map[string]bool{}
	for _, p := range b.peers {
		there[p.name] = true
	}
	for _, aim := range aims {
		if _, ok := r.metric(aim.metric); !ok {
			t.Errorf("nobody measures %s", aim.metric)
		}
		for name := range aim.below {
			if !there[name] {
				t.Errorf("there is no peer %s", name)
			}
		}
	}
	named := map[string]bool{}
	for _, part := range parts {
		for _, name := range part.metrics {
			named[name] = true
		}
	}
	for _, m := range b.metrics() {
		if !named[m.name] {
			t.Errorf("the document leaves %s out", m.name)
		}
	}
}

func TestChoose(t *testing.T) {
	for _, tc := range []struct{ only, which, want string }{
		{"hasp,squid", "", `there is no peer "squid"`},
		{"hasp", "bulk, cold", `there is no measure "cold"`},
	} {
		if err := new(bench).choose(tc.only, tc.which); err == nil || err.Error() != tc.want {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
	var b bench
	if err := b.choose("envoy-tcp, direct", "grpc"); err != nil || len(b.peers) != 2 || b.peers[0].name != direct || len(b.measures) != 1 || b.idle {
		t.Errorf("chose %d peers and %d measures, idle %v, %v", len(b.peers), len(b.measures), b.idle, err)
	}
}
