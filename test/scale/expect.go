package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	security "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"

	"hasp/compile"
	"hasp/mesh"
	"hasp/source"
	"hasp/world"
)

// expectation is the World of the objects as they are, built from scratch.
type expectation struct {
	world    *world.World
	compiler *compile.Compiler
}

// expected reads the API server's objects.
func (a *applier) expected() (*expectation, error) {
	o := &source.Objects{}
	read := func(resource string, into func([]byte) error) error {
		all, err := a.api.all(resource)
		if err != nil {
			return err
		}
		for _, raw := range all {
			if err := into(raw); err != nil {
				return fmt.Errorf("%s: %w", resource, err)
			}
		}
		return nil
	}
	for _, err := range []error{
		read("namespaces", decode(&o.Namespaces, func() *corev1.Namespace { return new(corev1.Namespace) })),
		read("services", decode(&o.Services, func() *corev1.Service { return new(corev1.Service) })),
		read("pods", decode(&o.Pods, func() *corev1.Pod { return new(corev1.Pod) })),
		read("peerauthentications", decode(&o.PeerAuthentications, func() *security.PeerAuthentication { return new(security.PeerAuthentication) })),
	} {
		if err != nil {
			return nil, err
		}
	}
	w, _ := source.Build(o, trustDomain)
	return &expectation{w, compile.New(w)}, nil
}

// decode appends a JSON object to a list.
func decode[T any](list *[]T, fresh func() T) func([]byte) error {
	return func(raw []byte) error {
		v := fresh()
		if err := json.Unmarshal(raw, v); err != nil {
			return err
		}
		*list = append(*list, v)
		return nil
	}
}

// check the configuration that a member's proxy has, as JSON.
func (e *expectation) check(m member, have []byte) error {
	wl := e.world.Workload(m.Node)
	if wl == nil {
		return fmt.Errorf("there is no workload %s any more", m.Node)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(have, &got); err != nil {
		return err
	}
	want, err := e.of(m, wl, string(got["onDemand"]) == "true")
	if err != nil {
		return err
	}
	raw, err := json.Marshal(want)
	if err != nil {
		return err
	}
	var exp map[string]json.RawMessage
	if err := json.Unmarshal(raw, &exp); err != nil {
		return err
	}
	delete(got, "generation")
	delete(exp, "generation")
	for k := range exp {
		if !bytes.Equal(got[k], exp[k]) {
			return fmt.Errorf("%s has another %s than its World says (%d bytes, not %d):\n%.600s\nnot\n%.600s", m.Node, k, len(got[k]), len(exp[k]), got[k], exp[k])
		}
	}
	return nil
}

// of a workload, whole or what its proxy asked for.
func (e *expectation) of(m member, wl *mesh.Workload, onDemand bool) (*mesh.ProxyConfig, error) {
	if !onDemand {
		cfg, _ := e.compiler.For(wl)
		return cfg, nil
	}
	d := mesh.Demand{Services: map[netip.AddrPort]bool{}, Peers: map[netip.Addr]bool{}}
	for _, a := range m.Services {
		d.Services[a] = true
	}
	for _, a := range m.Callers {
		d.Peers[a] = true
	}
	return compile.Join(e.compiler.OnDemand(wl, d))
}
