// Package dashboard is the pages on port 20001: who talks to whom and how, who
// still speaks plaintext, what a policy would do, who changed what. They are
// views of the facts that the commands show, and every page's JSON is theirs.
//
// [Handler] is all there is to call; it asks a [Backend], which the wiring hands
// in. [Remote] is one over the control plane's HTTP views. Pages are rendered
// here and work without JavaScript; a script of our own, when the browser runs
// it, keeps them up to date.
package dashboard

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hasp/truth"
)

// Backend is what the pages ask. Its answers are not changed, and it may be
// asked by many at a time.
type Backend interface {
	// Status must marshal to the JSON of hasp status.
	Status(context.Context) (any, error)
	Facts(context.Context) (*truth.Facts, error)
	// Links of a workload, NAMESPACE/NAME, or all when it is "".
	Links(ctx context.Context, workload string) ([]truth.Link, error)
	Plaintext(context.Context) (truth.PlainLedger, error)
	Graph(ctx context.Context, window time.Duration) (truth.Graph, error)
	// Why is ErrUnknown when no such connection is remembered.
	Why(ctx context.Context, id string) (truth.Postmortem, error)
	Timeline(context.Context) ([]truth.Change, error)
	// WhatIf answers for manifests in YAML. An *Invalid error says what is wrong
	// with them.
	WhatIf(ctx context.Context, yaml []byte) (truth.Answer, error)
	// Changed is closed when something has changed since it was asked for.
	Changed() <-chan struct{}
}

// ErrUnknown is what Backend.Why says of a connection that nobody remembers.
var ErrUnknown = errors.New("no such connection is remembered")

// Invalid is what Backend.WhatIf says of manifests that it cannot take.
type Invalid struct{ Reason string }

func (e *Invalid) Error() string { return e.Reason }

// Handler serves the pages, their JSON at /api/ and the events that tell an
// open page of news. It answers on loopback names only.
func Handler(b Backend) http.Handler {
	s := &site{backend: b}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /edge", s.edge)
	mux.HandleFunc("GET /workload/{namespace}/{name}", s.workload)
	mux.HandleFunc("GET /outside", s.outside)
	mux.HandleFunc("GET /plaintext", s.plaintext)
	mux.HandleFunc("GET /what-if", s.ask)
	mux.HandleFunc("POST /what-if", s.whatIf)
	mux.HandleFunc("GET /timeline", s.timeline)
	mux.HandleFunc("GET /why", s.findWhy)
	mux.HandleFunc("GET /why/{id}", s.why)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /assets/{name}", asset)
	s.api(mux)
	mux.HandleFunc("/", s.notFound)
	return guard(mux)
}

// site is the pages with what they share.
type site struct {
	backend   Backend
	layouts   layouts
	listeners listeners
}
