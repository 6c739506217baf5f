package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"hasp/xds"
)

// whole is the state-of-the-world protocol, which gRPC and older Envoys speak:
// when anything of a type changes, all of it is sent.
type whole struct {
	send  func(*discovery.DiscoveryResponse) error
	types map[string]*wholeType
}

type wholeType struct {
	names   map[string]bool // nil is the wildcard
	nonce   string          // of the last response
	version string
}

func newWhole(send func(*discovery.DiscoveryResponse) error) *whole {
	return &whole{send: send, types: map[string]*wholeType{}}
}

func (w *whole) request(ses *session, r *discovery.DiscoveryRequest) error {
	kind := r.GetTypeUrl()
	t, first := w.types[kind], false
	if t == nil {
		t, first = new(wholeType), true
		w.types[kind] = t
	}
	if !first && r.GetResponseNonce() != t.nonce {
		return nil // the answer to something older than what is on its way
	}
	names, err := namesOf(r.GetResourceNames(), first || t.names == nil)
	if err != nil {
		return err
	}
	more := !maps.Equal(names, t.names)
	t.names = names
	// A proxy that reconnects and has it all is told nothing.
	if first && r.GetVersionInfo() != "" && r.GetVersionInfo() == t.hash(ses.resources[kind]) {
		t.version = r.GetVersionInfo()
		return nil
	}
	if first || more {
		return w.respond(ses, kind)
	}
	return nil
}

// namesOf is the subscription; no names at all are the wildcard as long as none
// were ever given.
func namesOf(names []string, all bool) (map[string]bool, error) {
	if all && len(names) == 0 || slices.Contains(names, wildcard) {
		return nil, nil
	}
	out := map[string]bool{}
	return out, subscribe(out, names)
}

func (w *whole) push(ses *session) error {
	for _, kind := range xds.Types {
		t := w.types[kind]
		if t == nil || t.hash(ses.resources[kind]) == t.version {
			continue
		}
		if err := w.respond(ses, kind); err != nil {
			return err
		}
	}
	return nil
}

func (w *whole) respond(ses *session, kind string) error {
	t, now := w.types[kind], ses.resources[kind]
	// The newer response makes an answer to the older one unnecessary.
	delete(ses.outstanding, t.nonce)
	var err error
	if t.nonce, err = ses.await(kind); err != nil {
		return err
	}
	t.version = t.hash(now)
	resp := &discovery.DiscoveryResponse{TypeUrl: kind, VersionInfo: t.version, Nonce: t.nonce, Resources: []*anypb.Any{}}
	for _, name := range t.selected(now) {
		resp.Resources = append(resp.Resources, now[name].Body)
	}
	return w.send(resp)
}

// hash is the version of a type: of all in it that the proxy asked for.
func (t *wholeType) hash(now map[string]xds.Resource) string {
	h := sha256.New()
	for _, name := range t.selected(now) {
		fmt.Fprintf(h, "%q %q\n", name, now[name].Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (t *wholeType) selected(now map[string]xds.Resource) []string {
	var out []string
	for name := range now {
		if t.names == nil || t.names[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
