package proxy

import (
	"strings"
	"sync"

	"hasp/mesh"
)

// maxProbeNews bounds the answers that are remembered: more than a pod has
// probes, and no more than a stranger's tries are worth.
const maxProbeNews = 256

// probeNews tells which probes are worth a line. A kubelet asks every second of
// every pod, and an answer that is the last one's again says nothing: it would
// only push what somebody looks for out of the log and out of the table.
type probeNews struct {
	mu   sync.Mutex
	last map[probeKey]string
}

type probeKey struct {
	port     uint16
	question string
}

// fresh reports whether an ended connection is to be told: any that is no
// allowed probe, and a probe whose answer is not the one before.
func (n *probeNews) fresh(f *mesh.Connection) bool {
	if f.Security != mesh.Probed || !f.Allowed {
		return true
	}
	question, answer, _ := strings.Cut(f.Why, ": ")
	key := probeKey{f.Destination.Port(), question}
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, known := n.last[key]; known && before == answer {
		return false
	}
	if n.last == nil || len(n.last) >= maxProbeNews {
		n.last = map[probeKey]string{} // at worst each is told once more
	}
	n.last[key] = answer
	return true
}
