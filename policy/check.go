package policy

import (
	"fmt"
	"strings"

	"hasp/mesh"
	"hasp/world"
)

// What a check can say: the words of istioctl authn tls-check.
const (
	OK       = "OK"
	Conflict = "CONFLICT"
	Auto     = "AUTO" // OK by auto mutual TLS
)

// Verdict is whether a client and a service get along.
type Verdict struct {
	Status string // OK, CONFLICT or AUTO
	Why    string // a sentence for a person, naming the objects
	Server Server
	Client Client
}

// Check says whether calls of a workload to a service's port (and subset, ""
// for the whole) go as both ends' settings want it. It goes by istioctl 1.4's
// table: plaintext suits DISABLE and PERMISSIVE, ISTIO_MUTUAL suits STRICT and
// PERMISSIVE, and TLS with a client's own settings (SIMPLE, MUTUAL) suits no
// server of the mesh. Unlike istioctl it does not call plaintext against STRICT
// OK because no rule asked for it, and it looks whether the sidecars are there:
// a STRICT that nothing enforces is a CONFLICT too.
func Check(w *world.World, from *mesh.Workload, svc *mesh.Service, port uint16, subset string) Verdict {
	c := call{w: w, from: from, svc: svc, to: fmt.Sprintf("%s:%d", svc.Hostname, port)}
	c.client = ClientTLS(w, from, from.Namespace, svc, port, subset)
	v := Verdict{Server: ServiceMode(w, svc, port), Client: c.client}
	if svc.External {
		v.Status, v.Why = c.leaving()
		return v
	}
	v.Status, v.Why = c.staying(c.within(subset, backends(w, svc, port)), v.Server)
	return v
}

// call is what is asked about.
type call struct {
	w      *world.World
	from   *mesh.Workload
	svc    *mesh.Service
	to     string // HOST:PORT
	client Client
}

// within keeps the workloads of a subset, or all when none is in it yet.
func (c call) within(subset string, all []backend) []backend {
	var out []backend
	for _, s := range Subsets(c.w, c.from, c.from.Namespace, c.svc) {
		for _, b := range all {
			if s.Name == subset && subsetOf(s.Labels, b.wl.Labels) {
				out = append(out, b)
			}
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// leaving judges a call out of the mesh. The server's mode is not ours to know;
// only mesh certificates are surely of no use there.
func (c call) leaving() (status, why string) {
	if c.client.Mode == mesh.ClientIstioMutual {
		return Conflict, c.speech(meshTLS) + ", but " + c.to + " is outside the mesh and has no mesh certificate"
	}
	return OK, c.speech(c.spoken(backend{})) + ", and " + c.to + " is outside the mesh: what it takes is not set here"
}

// staying judges a call within the mesh by every workload that may answer: the
// first that refuses speaks for those that refuse for the same reason.
func (c call) staying(servers []backend, mode Server) (status, why string) {
	first, refusing := "", []backend(nil)
	var said tongue
	for _, b := range servers {
		spoken := c.spoken(b)
		problem := c.refusal(b, spoken)
		if first == "" {
			first, said = problem, spoken
		}
		if problem != "" && problem == first {
			refusing = append(refusing, b)
		}
	}
	switch {
	case first != "":
		return Conflict, c.speech(said) + ", but " + first + among(refusing, servers)
	case c.auto():
		status = Auto
	default:
		status = OK
	}
	return status, c.speech(c.spoken(servers[0])) + ", and " + c.acceptance(servers, mode)
}

// auto reports whether auto mutual TLS is what tells the client; it may tell it
// to speak plaintext (Client.Auto is false then).
func (c call) auto() bool {
	return !c.client.Set && c.w.Mesh.EnableAutoMtls && c.from.Role != mesh.RoleNone
}

// tongue is what is spoken on the wire.
type tongue int

const (
	plaintext tongue = iota
	meshTLS          // mutual TLS with mesh certificates
	ownTLS           // TLS with files or roots of the client's own
)

func (c call) spoken(b backend) tongue {
	switch c.client.Mode {
	case mesh.ClientIstioMutual:
		return meshTLS
	case mesh.ClientSimple, mesh.ClientMutual:
		return ownTLS
	}
	if c.client.Auto && TakesMeshTLS(c.w, b.wl, b.port) {
		return meshTLS
	}
	return plaintext
}

// TakesMeshTLS reports whether auto mutual TLS speaks TLS to a workload's port:
// it has a sidecar, which has not turned mutual TLS off.
func TakesMeshTLS(w *world.World, wl *mesh.Workload, port uint16) bool {
	return wl.Role == mesh.RoleSidecar && ServerMode(w, wl, port).Mode != mesh.ModeDisable
}

// refusal is why a workload does not take what is spoken, or empty.
func (c call) refusal(b backend, spoken tongue) string {
	s := b.mode(c.w)
	switch {
	case spoken == ownTLS:
		return c.to + " is in the mesh and takes plaintext or mutual TLS with mesh certificates, nothing else"
	case spoken == meshTLS && b.wl.Role == mesh.RoleGateway:
		return c.to + " is a gateway and takes what its Gateway objects say, not mesh certificates"
	case spoken == meshTLS && !b.sidecar():
		return c.to + " has no sidecar to take it"
	case spoken == meshTLS && s.Mode == mesh.ModeDisable:
		return c.to + " takes only plaintext, " + by("DISABLE", s.Origin)
	case spoken == plaintext && strictness(s.Mode) == strictness(mesh.ModeStrict) && !b.sidecar():
		return c.to + " shall take only mutual TLS, " + by("STRICT", s.Origin) + ", and has no sidecar: nothing enforces it and plaintext gets through"
	case spoken == plaintext && strictness(s.Mode) == strictness(mesh.ModeStrict):
		return c.to + " takes only mutual TLS, " + by("STRICT", s.Origin)
	}
	return ""
}

// acceptance is what the servers take, when they take what is spoken.
func (c call) acceptance(servers []backend, s Server) string {
	if servers[0].assumed {
		return c.to + " has no workload yet that could take it"
	}
	switch {
	case servers[0].wl.Role == mesh.RoleGateway:
		return c.to + " is a gateway and takes what its Gateway objects say"
	case !servers[0].sidecar():
		return c.to + " has no sidecar and takes what comes"
	case s.Mode == mesh.ModeUnset:
		return c.to + " takes mutual TLS and plaintext, as nothing sets its mode"
	case s.Mode == mesh.ModePermissive:
		return c.to + " takes mutual TLS and plaintext, " + by("PERMISSIVE", s.Origin)
	case s.Mode == mesh.ModeDisable:
		return c.to + " takes plaintext, " + by("DISABLE", s.Origin)
	}
	return c.to + " takes mutual TLS, " + by("STRICT", s.Origin)
}

// speech is who speaks what, and by which rule.
func (c call) speech(spoken tongue) string {
	who := WorkloadName(c.from)
	switch {
	case c.client.Set:
		return who + " speaks " + by(string(c.client.Mode), c.client.Origin)
	case c.from.Role == mesh.RoleNone:
		return who + " has no sidecar and speaks plaintext"
	case spoken == meshTLS:
		return who + " speaks mutual TLS by auto mTLS"
	case c.client.Auto:
		return who + " speaks plaintext by auto mTLS"
	}
	since := "no DestinationRule sets tls"
	if c.client.Origin.Name != "" {
		since = c.client.Origin.String() + " sets no tls"
	}
	switch {
	case c.svc.External:
		return who + " passes on what the application speaks, since " + since
	case c.w.Mesh.EnableAutoMtls:
		return who + " speaks plaintext, since " + since + " and the server turned mutual TLS off"
	}
	return who + " speaks plaintext, since " + since + " and auto mTLS is off"
}

func by(mode string, o mesh.Origin) string { return mode + " by " + o.String() }

// among names the workloads that refuse, when the others do not.
func among(refusing, all []backend) string {
	if len(refusing) == len(all) {
		return ""
	}
	const most = 3
	var names []string
	for _, b := range refusing[:min(len(refusing), most)] {
		names = append(names, b.wl.Key())
	}
	if more := len(refusing) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf(" (%d of %d workloads: %s)", len(refusing), len(all), strings.Join(names, ", "))
}

// WorkloadName is NAME.NAMESPACE as a person calls a workload: its Deployment's
// name where it has one.
func WorkloadName(wl *mesh.Workload) string {
	name := wl.Owner
	if name == "" {
		name = wl.Name
	}
	return name + "." + wl.Namespace
}
