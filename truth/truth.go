// Package truth makes of what proxies report what people ask: who talks to whom
// and how ([Links]), who still speaks plaintext ([PlaintextOf]), what would become
// of it all under another policy ([WhatIf]), why a connection failed ([Why]).
// All of them are views of the same [Facts], so that they cannot disagree.
//
// It is pure: the clock is an argument, what it is given it does not change.
package truth

import (
	"net/netip"
	"time"

	"hasp/mesh"
)

// Facts are what is known at a time: the live and recent connections of every
// proxy, and the ledger. One control plane holds them; see [Book].
type Facts struct {
	// Version grows whenever something changed.
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
	// Since is when the ledger begins: nothing older is remembered.
	Since      time.Time  `json:"since"`
	Generation uint64     `json:"generation"`
	Proxies    []Reporter `json:"proxies"` // by Node
	// Connections of all proxies, the newest first.
	Connections []Connection `json:"connections"`
	Edges       []mesh.Edge  `json:"edges"` // by EdgeKey
	// Workloads are those that the edges name, as they were when last seen: some
	// are no more. By Workload.
	Workloads []Party `json:"workloads,omitempty"`
	// Forgotten counts the edges that there was no room for.
	Forgotten uint64 `json:"forgotten,omitempty"`
	// Processes that have an address for themselves, where that is known.
	Processes map[netip.Addr]string `json:"processes,omitempty"`

	history []history // of Edges, by their index; nil when there is none
}

// Reporter is a proxy as a source of facts.
type Reporter struct {
	Node      string    `json:"node"`
	Identity  string    `json:"identity"`
	Connected bool      `json:"connected"` // its report stream is up
	At        time.Time `json:"at"`        // its last report, by our clock
	// Skew is by how much its clock is ahead of ours, as of the last report.
	Skew time.Duration `json:"skew"`
	// Generation in force there, by the proxy's own report; in GET /facts the
	// newest that it acknowledged, which may have changed nothing for it.
	Generation uint64 `json:"generation"`
	Dropped    uint64 `json:"dropped,omitempty"`
	// Since is from when on its ledger is all there: it began to report then, or
	// lines were forgotten.
	Since time.Time `json:"since"`
	// Complete is from when on its connections are all there: of those that had
	// ended by then some may be missing.
	Complete time.Time `json:"complete"`
}

// Connection is a mesh.Connection and whose table it is from.
type Connection struct {
	Node string `json:"node"`
	mesh.Connection
}

// Kinds of a Party.
const (
	KindWorkload = "workload"
	KindGateway  = "gateway"
	KindService  = "service" // called in vain: none of its workloads was reached
	KindHost     = "host"    // a node's address: its kubelet, or a pod on its network
	KindProcess  = "process" // one of this machine that has the address for itself
	KindOutside  = "outside" // an address of nobody's
	KindUnknown  = "unknown" // not even an address
)

// Party is one end of a link, as well as it is known.
type Party struct {
	Kind     string `json:"kind"`
	Workload string `json:"workload,omitempty"` // NAMESPACE/NAME of the pod
	// Owner is the NAME of its Deployment or of the pod itself, of the service
	// called, or the host name of a service outside.
	Owner string `json:"owner,omitempty"`
	// Namespace of the workload.
	Namespace string `json:"namespace,omitempty"`
	Address   string `json:"address,omitempty"` // of the socket, or a network
	Process   string `json:"process,omitempty"` // of KindProcess: "hasp (pid 42)"
	Identity  string `json:"identity,omitempty"`
	// Meshed parties have a proxy, which should have reported the link too.
	Meshed bool `json:"meshed"`
}

// Link is one connection, joined from the reports of both ends.
type Link struct {
	Trace       string `json:"trace"`
	Source      Party  `json:"source"`
	Destination Party  `json:"destination"`
	Service     string `json:"service,omitempty"`
	Port        uint16 `json:"port"`
	// Seen are the ends that reported it: "both", "source" or "destination".
	Seen string `json:"seen"`
	// Disagreement says in a sentence what the two ends report differently, or
	// that an end that should have seen it did not. Empty when all is well.
	Disagreement string `json:"disagreement,omitempty"`

	Security   mesh.Security   `json:"security"`
	Why        string          `json:"why,omitempty"`
	Handshake  *mesh.Handshake `json:"handshake,omitempty"`
	Allowed    bool            `json:"allowed"`
	Mode       string          `json:"mode,omitempty"`       // of the server
	Rule       mesh.Origin     `json:"rule,omitzero"`        // of the server
	ClientMode string          `json:"clientMode,omitempty"` // of the client
	ClientRule mesh.Origin     `json:"clientRule,omitzero"`  // of the client
	Generation uint64          `json:"generation"`
	Protocol   mesh.Protocol   `json:"protocol,omitempty"`
	Sent       uint64          `json:"sent"`
	Received   uint64          `json:"received"`
	Requests   uint64          `json:"requests,omitempty"`
	Errors     uint64          `json:"errors,omitempty"`
	Start      time.Time       `json:"start"`
	LastSeen   time.Time       `json:"lastSeen"`
	End        time.Time       `json:"end,omitzero"` // zero while it lives

	// The rows it was joined from.
	AtSource      *Connection `json:"atSource,omitempty"`
	AtDestination *Connection `json:"atDestination,omitempty"`
}

// Plain is a line of the plaintext ledger: a client that reached a server
// without mutual TLS.
type Plain struct {
	Source      Party     `json:"source"`
	Destination Party     `json:"destination"`
	Service     string    `json:"service,omitempty"`
	Port        uint16    `json:"port"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Count       uint64    `json:"count"` // connections
	Open        uint64    `json:"open,omitempty"`
	// Security is "none", or "opaque" for the application's own TLS.
	Security mesh.Security `json:"security"`
	Why      string        `json:"why"`
	// Fix is what would make it mutual TLS.
	Fix string `json:"fix"`
	// MutualSince is when the client went over to mutual TLS for good: nothing
	// newer is plaintext. Zero while STRICT would cut it.
	MutualSince time.Time `json:"mutualSince,omitzero"`
}

// Hinders reports whether STRICT would cut the client.
func (p *Plain) Hinders() bool { return p.MutualSince.IsZero() }

// PlainLedger is the answer to "is STRICT safe?": every line of plaintext of the
// time that is remembered, and the servers that were called in it. A line whose
// client has gone over to mutual TLS stays until it is too old, but does not
// hinder.
type PlainLedger struct {
	At time.Time `json:"at"`
	// Since is when the ledger begins.
	Since time.Time `json:"since"`
	Lines []Plain   `json:"lines"` // by server, the newest first
	// Servers that were called, by namespace and name. One without a line that
	// hinders takes STRICT and nobody is cut.
	Servers []Called `json:"servers"`
	// Blind are the meshed workloads whose proxies do not report: of them it says
	// nothing.
	Blind []string `json:"blind,omitempty"`
	// Forgotten as in Facts: lines that there was no room for.
	Forgotten uint64 `json:"forgotten,omitempty"`
}

// Called is a server that was called, by Deployment.
type Called struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Meshed servers have a proxy that can demand mutual TLS.
	Meshed bool `json:"meshed"`
	// Plain counts its lines that hinder STRICT.
	Plain int `json:"plain,omitempty"`
}

// Graph is who talks to whom, by Deployment.
type Graph struct {
	At         time.Time `json:"at"`
	Generation uint64    `json:"generation"`
	// Window that the figures of the edges are of, in nanoseconds.
	Window time.Duration `json:"window"`
	Nodes  []GraphNode   `json:"nodes"` // by ID
	Edges  []GraphEdge   `json:"edges"` // by From, To, Port
	// MutualTLS is the share of connections in the graph that are mutual TLS,
	// 0 to 1; of no connections it is 1.
	MutualTLS float64 `json:"mutualTLS"`
	// Lock is "closed" when every edge is mutual TLS, "partial" or "open" when
	// none is; "" without edges.
	Lock string `json:"lock"`
}

// GraphNode is a Deployment, a bare pod, a gateway or an address outside.
type GraphNode struct {
	ID        string `json:"id"` // NAMESPACE/NAME, or an address or network
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Kind as in Party.
	Kind       string   `json:"kind"`
	Meshed     bool     `json:"meshed"`
	Workloads  []string `json:"workloads,omitempty"`
	Identities []string `json:"identities,omitempty"`
}

// GraphEdge is the traffic from one node to another by one port in the last
// Window.
type GraphEdge struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Service string `json:"service,omitempty"`
	Port    uint16 `json:"port"`
	// Lock is "closed" (all mutual TLS), "partial", "open" (none), "refused" (none
	// was let in).
	Lock         string          `json:"lock"`
	MutualTLS    uint64          `json:"mutualTLS"` // connections
	Plaintext    uint64          `json:"plaintext"`
	Refused      uint64          `json:"refused"`
	Open         uint64          `json:"open"`
	Protocol     mesh.Protocol   `json:"protocol,omitempty"`
	Requests     uint64          `json:"requests,omitempty"`
	Errors       uint64          `json:"errors,omitempty"`
	P50          time.Duration   `json:"p50,omitempty"` // of a request
	P99          time.Duration   `json:"p99,omitempty"`
	Sent         uint64          `json:"sent"`
	Received     uint64          `json:"received"`
	Why          string          `json:"why,omitempty"`   // plaintext, or refused
	Rules        []mesh.Origin   `json:"rules,omitempty"` // that decided at either end
	Handshake    *mesh.Handshake `json:"handshake,omitempty"`
	Last         time.Time       `json:"last"`
	Disagreement string          `json:"disagreement,omitempty"`
	// Seen as in Link.
	Seen string `json:"seen"`
}

// Seen is the newest real handshake between a client and a port of a service.
type Seen struct {
	mesh.Handshake
	// Security of the newest connection, whatever it was.
	Security mesh.Security `json:"security"`
	Last     time.Time     `json:"last"`
	// Ends that reported it: "both", "source" or "destination".
	Ends string `json:"ends"`
}

// Checked is what facts add to tls-check for a client and a port of a service.
type Checked struct {
	// Acked says that every proxy at both ends has the newest generation in
	// force; Behind names those that do not.
	Acked  bool     `json:"acked"`
	Behind []string `json:"behind,omitempty"`
	// Seen is nil when they have not talked in the time of the ledger.
	Seen *Seen `json:"seen,omitempty"`
	// Verdict is one of "OK", "CONFLICT", "AUTO" as configured, and "DIFFERS" when
	// the newest connection was not what the configuration says it is.
	Verdict string `json:"verdict"`
	// Headline says what differs; empty otherwise.
	Headline string `json:"headline,omitempty"`
}

// Postmortem is all that is known of one connection, mostly of a failed one.
type Postmortem struct {
	Link
	// Sentence is what happened, Fix what to do.
	Sentence string `json:"sentence"`
	Fix      string `json:"fix"`
	// Skew of both ends' clocks against the control plane's, when known.
	SourceSkew      time.Duration `json:"sourceSkew,omitempty"`
	DestinationSkew time.Duration `json:"destinationSkew,omitempty"`
}

// What a candidate would do to a client.
const (
	Cut       = "cut"       // refused from then on
	Upgraded  = "upgraded"  // from plaintext to mutual TLS
	Weakened  = "weakened"  // from mutual TLS to plaintext
	Freed     = "freed"     // refused now, let in then
	Reset     = "reset"     // live connections end, and may come back as they were
	Unchanged = "unchanged" // not listed
)

// Effect is what a candidate would do to one client of one server.
type Effect struct {
	What   string `json:"what"` // Cut, Weakened, Reset, Freed, Upgraded
	Source Party  `json:"source"`
	// Pods of Source that it is about, NAMESPACE/NAME; none for an address.
	Pods        []string `json:"pods,omitempty"`
	Destination Party    `json:"destination"`
	Service     string   `json:"service,omitempty"`
	Port        uint16   `json:"port"`
	// Live are the connections that would end the moment the candidate is in
	// force; the client may come back unless What is Cut.
	Live  int       `json:"live"`
	Lives []string  `json:"traces,omitempty"` // of those, at most 100
	Last  time.Time `json:"last"`
	Why   string    `json:"why"`
	Fix   string    `json:"fix,omitempty"`
}

// Answer is what a candidate would do.
type Answer struct {
	// Generation and Since of the facts it was measured by.
	Generation uint64    `json:"generation"`
	Since      time.Time `json:"since"`
	// Objects are the candidate's: "PeerAuthentication shop/default created".
	Objects []string `json:"objects"`
	Effects []Effect `json:"effects"` // the worst first
	// Warnings are what facts cannot tell: a client that was never seen and would
	// be refused, a removed subset still routed to, a rule that loses to an older.
	Warnings []string `json:"warnings,omitempty"`
	// Blind are proxies that do not report: what they carry is not in the answer.
	Blind []string `json:"blind,omitempty"`
}

// Hurt reports whether somebody would be worse off: the exit status of what-if.
func (a *Answer) Hurt() bool {
	for _, e := range a.Effects {
		if e.What == Cut || e.What == Weakened {
			return true
		}
	}
	return false
}

// Change is a line of the timeline: an object of the mesh that came, changed or
// went.
type Change struct {
	At         time.Time   `json:"at"`
	Generation uint64      `json:"generation"`
	Object     mesh.Origin `json:"object"`
	Verb       string      `json:"verb"` // "created", "changed", "deleted"
	// Who is the field manager that wrote last, as in metadata.managedFields, and
	// the user when the API server told.
	Who string `json:"who,omitempty"`
	// What it says now, in a line: "mtls.mode STRICT".
	What string `json:"what,omitempty"`
	// Enforced is when every connected proxy had it; zero while that is under way.
	Enforced time.Time `json:"enforced,omitzero"`
}
