package xds

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"hasp/mesh"
)

// secrets makes an SDS secret of each certificate that a server names, and one
// more, NAME-cacert, of what verifies that server's clients.
func (e *encoder) secrets() error {
	for _, s := range e.c.Secrets {
		if !named(s.Name, e.c.Gateway) {
			continue // nobody asks for it: a key that need not travel does not
		}
		if !fromControlPlane(s.Name) || strings.HasSuffix(s.Name, caSuffix) {
			return fmt.Errorf("a secret cannot have the name %q", s.Name)
		}
		if len(s.Cert) == 0 || len(s.Key) == 0 {
			return fmt.Errorf("secret %q has no certificate or no key", s.Name)
		}
		m := &tlsv3.Secret{Name: s.Name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(s.Cert), PrivateKey: inline(s.Key),
		}}}
		if err := e.add(SecretType, s.Name, m); err != nil {
			return err
		}
		if len(s.CA) == 0 {
			continue
		}
		m = &tlsv3.Secret{Name: s.Name + caSuffix, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(s.CA)},
		}}
		if err := e.add(SecretType, s.Name+caSuffix, m); err != nil {
			return err
		}
	}
	return nil
}

func named(secret string, servers []mesh.Server) bool {
	return slices.ContainsFunc(servers, func(g mesh.Server) bool { return g.Secret == secret })
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// SecretNames are the names of the secret resources that the listeners among r
// refer to, sorted. Listeners that cannot be read are left out: Decode names
// them.
func SecretNames(r Resources) []string {
	var names []string
	for _, res := range r[ListenerType] {
		l := new(listenerv3.Listener)
		if res.Body.UnmarshalTo(l) != nil {
			continue
		}
		for _, fc := range l.GetFilterChains() {
			if fc.GetTransportSocket() == nil {
				continue
			}
			s, _, err := readDownstream(fc.GetTransportSocket())
			if err != nil {
				continue
			}
			for _, name := range []string{s.cert, s.roots} {
				if name != "" && fromControlPlane(name) {
					names = append(names, name)
				}
			}
			if s.cert != "" && fromControlPlane(s.cert) {
				names = append(names, s.cert+caSuffix)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *decoder) secrets() error {
	found := map[string]*mesh.Secret{}
	of := func(name string) *mesh.Secret {
		if found[name] == nil {
			found[name] = &mesh.Secret{Name: name}
		}
		return found[name]
	}
	for _, name := range d.in.Names(SecretType) {
		m := new(tlsv3.Secret)
		if err := get(d.in, SecretType, name, m); err != nil {
			return err
		}
		if err := readSecret(m, of); err != nil {
			return fmt.Errorf("Secret %q: %w", name, err)
		}
	}
	for name, s := range found {
		if s.Cert == nil && s.CA != nil {
			return fmt.Errorf("Secret %q: there is no certificate %q", name+caSuffix, name)
		}
		d.c.Secrets = append(d.c.Secrets, *s)
	}
	return nil
}

func readSecret(m *tlsv3.Secret, of func(string) *mesh.Secret) error {
	if err := only(m, "name", "tls_certificate", "validation_context"); err != nil {
		return err
	}
	if v := m.GetValidationContext(); v != nil {
		name, ok := strings.CutSuffix(m.GetName(), caSuffix)
		if !ok {
			return fmt.Errorf("validation_context is supported in secrets named NAME%s", caSuffix)
		}
		if err := only(v, "trusted_ca"); err != nil {
			return fmt.Errorf("validation_context: %w", err)
		}
		var err error
		of(name).CA, err = readInline("trusted_ca", v.GetTrustedCa())
		return err
	}
	c := m.GetTlsCertificate()
	if err := only(c, "certificate_chain", "private_key"); err != nil {
		return fmt.Errorf("tls_certificate: %w", err)
	}
	s := of(m.GetName())
	var err error
	if s.Cert, err = readInline("certificate_chain", c.GetCertificateChain()); err != nil {
		return err
	}
	s.Key, err = readInline("private_key", c.GetPrivateKey())
	return err
}

func readInline(field string, d *corev3.DataSource) ([]byte, error) {
	if err := only(d, "inline_bytes"); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if len(d.GetInlineBytes()) == 0 {
		return nil, fmt.Errorf("%s: there is nothing in it", field)
	}
	return d.GetInlineBytes(), nil
}
