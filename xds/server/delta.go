package server

import (
	"maps"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"hasp/xds"
)

// wildcard subscribes to all resources of a type, as does saying nothing in the
// first request.
const wildcard = "*"

// piece is about how many bytes of resources go into one response of a total. A
// connection of gRPC keeps the buffer that it wrote last, and beyond 32 KiB there is
// only one size of those, a megabyte; but a large configuration must not take more
// answers than may be outstanding, nor a response reach the limit of a client.
func piece(total int) int { return max(16<<10, total/256) }

// delta is the incremental protocol: per resource, what the proxy has.
type delta struct {
	send  func(*discovery.DeltaDiscoveryResponse) error
	types map[string]*deltaType
}

type deltaType struct {
	names map[string]bool   // subscribed, perhaps with the wildcard
	has   map[string]string // versions the proxy was sent or came with
	// Names asked for on demand, to be answered with the next push, and those given
	// up, to be told gone with it: then the proxy knows that what comes later is the
	// answer to a new question.
	due, over []string
}

func newDelta(send func(*discovery.DeltaDiscoveryResponse) error) *delta {
	return &delta{send: send, types: map[string]*deltaType{}}
}

func (d *delta) request(ses *session, r *discovery.DeltaDiscoveryRequest) error {
	kind := r.GetTypeUrl()
	t, first := d.types[kind], false
	if t == nil {
		first = true
		t = &deltaType{names: map[string]bool{}, has: map[string]string{}}
		d.types[kind] = t
		maps.Copy(t.has, r.GetInitialResourceVersions())
		if len(r.GetResourceNamesSubscribe()) == 0 {
			t.names[wildcard] = true
		}
	}
	if err := subscribe(t.names, r.GetResourceNamesSubscribe()); err != nil {
		return err
	}
	for _, n := range r.GetResourceNamesUnsubscribe() {
		delete(t.names, n)
		if !t.names[wildcard] {
			delete(t.has, n)
		}
	}
	again := r.GetResourceNamesSubscribe()
	if first {
		again = nil // what it came with it need not be sent
	} else if changed, err := ses.ask(r); err != nil {
		return err
	} else if changed && ses.onDemand {
		t.due = append(t.due, again...)
		t.over = append(t.over, r.GetResourceNamesUnsubscribe()...)
		return nil
	}
	up, gone := t.diff(ses.resources[kind], again)
	if first {
		gone = append(gone, t.missing(ses.resources[kind], gone)...)
	}
	if !first && len(up)+len(gone) == 0 {
		return nil
	}
	// The first request is answered even when there is nothing to say, so that
	// the proxy knows it is up to date.
	return d.respond(ses, kind, up, gone)
}

// push sends additions in the order of xds.Types and then removals in reverse,
// so that at no time something refers to what is not there.
func (d *delta) push(ses *session) error {
	removed := map[string][]string{}
	for _, kind := range xds.Types {
		t := d.types[kind]
		if t == nil {
			continue
		}
		var due, over []string
		if ses.loaded { // else nobody knows what the answer is
			due, over, t.due, t.over = t.due, t.over, nil, nil
		}
		up, gone := t.diff(ses.resources[kind], due)
		for _, name := range over {
			if _, ok := ses.resources[kind][name]; !ok && !slices.Contains(gone, name) {
				gone = append(gone, name)
			}
		}
		removed[kind] = gone
		if len(up) > 0 {
			if err := d.respond(ses, kind, up, nil); err != nil {
				return err
			}
		}
	}
	for _, kind := range slices.Backward(xds.Types) {
		if gone := removed[kind]; len(gone) > 0 {
			if err := d.respond(ses, kind, nil, gone); err != nil {
				return err
			}
		}
	}
	return nil
}

// diff is what the proxy lacks, and what it has too much. The names in again
// are sent even when it has them, as the protocol asks for when a name is
// subscribed to anew, and reported gone when they do not exist.
func (t *deltaType) diff(now map[string]xds.Resource, again []string) (up, gone []string) {
	for name, res := range now {
		if t.wants(name) && (t.has[name] != res.Version || slices.Contains(again, name)) {
			up = append(up, name)
		}
	}
	for name := range t.has {
		if _, ok := now[name]; !ok {
			gone = append(gone, name)
		}
	}
	for _, name := range again {
		if _, ok := now[name]; !ok && name != wildcard && t.has[name] == "" {
			gone = append(gone, name)
		}
	}
	slices.Sort(up)
	slices.Sort(gone)
	return up, slices.Compact(gone)
}

// missing are names subscribed to that do not exist and are not among gone.
func (t *deltaType) missing(now map[string]xds.Resource, gone []string) []string {
	var out []string
	for name := range t.names {
		if _, ok := now[name]; !ok && name != wildcard && !slices.Contains(gone, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (t *deltaType) wants(name string) bool { return t.names[wildcard] || t.names[name] }

// respond sends in pieces and takes the proxy as having what was sent, whether
// it accepts it or not: a proxy keeps what it refused beside what it serves, so
// that the next change makes the set whole again.
func (d *delta) respond(ses *session, kind string, up, gone []string) error {
	t, now := d.types[kind], ses.resources[kind]
	total := 0
	for _, name := range up {
		total += len(now[name].Body.GetValue())
	}
	for {
		resp := &discovery.DeltaDiscoveryResponse{TypeUrl: kind, SystemVersionInfo: systemVersion(ses.generation), RemovedResources: gone}
		for size := 0; len(up) > 0 && size < piece(total); up = up[1:] {
			res := now[up[0]]
			resp.Resources = append(resp.Resources, &discovery.Resource{Name: up[0], Version: res.Version, Resource: res.Body})
			t.has[up[0]] = res.Version
			size += len(res.Body.GetValue())
		}
		for _, name := range gone {
			delete(t.has, name)
		}
		gone = nil
		var err error
		if resp.Nonce, err = ses.await(kind); err != nil {
			return err
		}
		if err := d.send(resp); err != nil {
			return err
		}
		if len(up) == 0 {
			return nil
		}
	}
}
