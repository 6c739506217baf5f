package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"hasp/control"
	"hasp/mesh"
	"hasp/world"
)

const (
	// askTimeout bounds the question to one replica.
	askTimeout = time.Second
	// maxProgress bounds its answer, in bytes.
	maxProgress = 1 << 20
	// lost is how long a replica that does not answer is waited for. Its node
	// may be gone, and the API does not know for a while.
	lost = 10 * time.Second
)

// others asks the other replicas how far their proxies are: the leader writes in
// an object's status what became of it everywhere. They answer on the port of
// the metrics, which has nothing to hide.
type others struct {
	self  string // this replica's pod
	port  int    // of the metrics, the same for all
	world func() *world.World
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex           // one caller at a time
	silent map[string]time.Time // by pod: since when
}

// ask all that are ready. One that does not answer is behind.
func (o *others) ask(ctx context.Context) []control.Progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.world()
	if w == nil {
		return nil
	}
	peers := replicas(w, o.self)
	answers := make([]*control.Progress, len(peers))
	var wg sync.WaitGroup
	for i, peer := range peers {
		wg.Go(func() {
			if p, err := o.one(ctx, peer.Addresses[0]); err == nil {
				answers[i] = p
			}
		})
	}
	wg.Wait()
	silent := map[string]time.Time{}
	var out []control.Progress
	for i, peer := range peers {
		if answers[i] != nil {
			out = append(out, *answers[i])
			continue
		}
		since, before := o.silent[peer.Name]
		if !before {
			since = o.now()
			o.log.Warn("another replica does not answer", slog.String("pod", peer.Name))
		}
		silent[peer.Name] = since
		if o.now().Sub(since) < lost {
			out = append(out, control.Progress{Behind: true})
		}
	}
	o.silent = silent
	return out
}

// replicas are the other ones that are ready.
func replicas(w *world.World, self string) []*mesh.Workload {
	return slices.DeleteFunc(slices.Clone(w.Workloads), func(wl *mesh.Workload) bool {
		return wl.Namespace != Namespace || wl.Labels["app"] != Service || wl.Name == self || !wl.Ready || len(wl.Addresses) == 0
	})
}

func (o *others) one(ctx context.Context, addr netip.Addr) (*control.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(addr.String(), strconv.Itoa(o.port))+"/progress", nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", resp.Status)
	}
	var p control.Progress
	return &p, json.NewDecoder(io.LimitReader(resp.Body, maxProgress)).Decode(&p)
}

// progress answers them.
func (p *plane) progress(w http.ResponseWriter, _ *http.Request) {
	work := p.working.Load()
	if work == nil {
		http.Error(w, "it is starting", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(work.control.Progress())
}
