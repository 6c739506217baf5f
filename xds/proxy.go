package xds

import (
	"fmt"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"hasp/mesh"
)

// maxMillis bounds the durations of the settings: a day.
const maxMillis = 24 * 60 * 60 * 1000

// proxyLayer is the content of the Runtime hasp.proxy.
type proxyLayer struct {
	Node        string     `json:"node,omitempty"`
	Identity    string     `json:"identity,omitempty"`
	TrustDomain string     `json:"trustDomain,omitempty"`
	Role        mesh.Role  `json:"role,omitempty"`
	MinTLS      string     `json:"minTLS,omitempty"`
	Names       mesh.Names `json:"names,omitzero"`
	OnDemand    bool       `json:"onDemand,omitempty"`
	// Settings stand here for our proxy. To an Envoy, access_log and
	// connect_timeout of the other resources say the same, and Decode sees to it
	// that they do.
	Settings mesh.Settings `json:"settings,omitzero"`
	// Digest is over all other resources of the same configuration.
	Digest string `json:"digest"`
}

// proxy is the last step: the digest seals what the others made.
func (e *encoder) proxy() error {
	l := proxyLayer{e.c.Node, e.c.Identity, e.c.TrustDomain, e.c.Role, e.c.MinTLS, e.c.Names, e.c.OnDemand, e.c.Settings, e.out.digest()}
	if err := l.check(); err != nil {
		return err
	}
	layer, err := toStruct(l)
	if err != nil {
		return err
	}
	return e.add(RuntimeType, ProxyName, &runtimev3.Runtime{Name: ProxyName, Layer: layer})
}

// check is asked by both sides.
func (l *proxyLayer) check() error {
	if l.Role != mesh.RoleSidecar && l.Role != mesh.RoleGateway {
		return fmt.Errorf("%s %q: role %q is not supported", short(RuntimeType), ProxyName, l.Role)
	}
	if l.OnDemand && l.Role != mesh.RoleSidecar {
		return fmt.Errorf("%s %q: onDemand is not supported for role %q", short(RuntimeType), ProxyName, l.Role)
	}
	if l.MinTLS != "" && l.MinTLS != "1.2" && l.MinTLS != "1.3" {
		return fmt.Errorf("%s %q: minTLS %q is not supported", short(RuntimeType), ProxyName, l.MinTLS)
	}
	s := l.Settings
	if !s.AccessLog.Known() {
		return fmt.Errorf("%s %q: settings.accessLog %q is not supported", short(RuntimeType), ProxyName, s.AccessLog)
	}
	for _, d := range []struct {
		field  string
		millis int64
	}{{"connectTimeoutMillis", s.ConnectTimeoutMillis}, {"drainMillis", s.DrainMillis}, {"terminationDrainMillis", s.TerminationDrainMillis}, {"idleMillis", s.IdleMillis}} {
		if d.millis < 0 || d.millis > maxMillis {
			return fmt.Errorf("%s %q: settings.%s %d is out of range, must be 0 to %d", short(RuntimeType), ProxyName, d.field, d.millis, int64(maxMillis))
		}
	}
	return nil
}

func (d *decoder) proxy() error {
	l, err := readProxy(d.in)
	if err != nil {
		return err
	}
	if err := l.check(); err != nil {
		return err
	}
	d.c.Node, d.c.Identity, d.c.TrustDomain, d.c.Role, d.c.MinTLS = l.Node, l.Identity, l.TrustDomain, l.Role, l.MinTLS
	d.c.Names, d.c.OnDemand, d.c.Settings = l.Names, l.OnDemand, l.Settings
	return nil
}

func readProxy(r Resources) (*proxyLayer, error) {
	m := new(runtimev3.Runtime)
	if err := get(r, RuntimeType, ProxyName, m); err != nil {
		return nil, err
	}
	l := new(proxyLayer)
	if err := fromStruct(m.GetLayer(), l); err != nil {
		return nil, fmt.Errorf("%s %q: %w", short(RuntimeType), ProxyName, err)
	}
	return l, nil
}

// Complete reports whether the resources are all of one configuration and no
// others: resources arrive one type after another, and between the first and
// the last of an update they are a mixture that nobody compiled. It is false
// as well when hasp.proxy is not there yet, and an error when it is unreadable.
func Complete(r Resources) (bool, error) {
	if _, ok := r[RuntimeType][ProxyName]; !ok {
		return false, nil
	}
	l, err := readProxy(r)
	if err != nil {
		return false, fmt.Errorf("xds: %w", err)
	}
	return l.Digest == r.digest(), nil
}
