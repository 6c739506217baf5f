package xds

import (
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"hasp/mesh"
)

// clientMeta is our part of a cluster's metadata about TLS: the word, since
// several words have one shape, and who decided.
type clientMeta struct {
	Mode   mesh.ClientMode `json:"mode,omitempty"`
	Auto   bool            `json:"auto,omitempty"`
	Origin mesh.Origin     `json:"origin,omitzero"`
	// AnySAN: no name was given, so the server must be who the endpoint says;
	// the names in the TLS context are then all endpoints' together, which is
	// the best that Envoy can check.
	AnySAN bool `json:"endpointIdentity,omitempty"`
}

// canonical is what of the settings a mode uses.
func canonical(t mesh.ClientTLS) (mesh.ClientTLS, error) {
	out := mesh.ClientTLS{Mode: t.Mode, Origin: t.Origin}
	switch {
	case t.Mode == mesh.ClientUnset && t.Auto:
		out.Auto, out.SNI, out.SubjectAltNames = true, t.SNI, t.SubjectAltNames
	case t.Mode == mesh.ClientUnset, t.Mode == mesh.ClientDisable:
	case t.Mode == mesh.ClientIstioMutual:
		out.SNI, out.SubjectAltNames = t.SNI, t.SubjectAltNames
	case t.Mode == mesh.ClientSimple, t.Mode == mesh.ClientMutual:
		out.SNI, out.InsecureSkipVerify = t.SNI, t.InsecureSkipVerify
		if !t.InsecureSkipVerify {
			out.SubjectAltNames, out.CACertificates = t.SubjectAltNames, t.CACertificates
		}
		if t.Mode == mesh.ClientMutual {
			out.ClientCertificate, out.PrivateKey = t.ClientCertificate, t.PrivateKey
		}
	default:
		return out, fmt.Errorf("tls mode %q is not known", t.Mode)
	}
	if len(out.SubjectAltNames) == 0 {
		out.SubjectAltNames = nil
	}
	return out, nil
}

// clientTLS puts the transport socket into the cluster and returns the metadata.
func clientTLS(m *clusterv3.Cluster, c mesh.Cluster, minTLS string) (clientMeta, error) {
	t, err := canonical(c.TLS)
	if err != nil {
		return clientMeta{}, err
	}
	meta := clientMeta{Mode: t.Mode, Auto: t.Auto, Origin: t.Origin}
	var shape tlsShape
	switch {
	case t.Auto, t.Mode == mesh.ClientIstioMutual:
		shape = tlsShape{cert: ownCert, roots: meshRoots, sans: t.SubjectAltNames, alpn: []string{alpnIstio}}
		if t.SubjectAltNames == nil {
			meta.AnySAN = true
			shape.sans = identities(c.Endpoints)
		}
	case t.Mode == mesh.ClientSimple, t.Mode == mesh.ClientMutual:
		minTLS = "" // the mesh's minimum is for the mesh
		if shape, err = fileShape(t); err != nil {
			return meta, err
		}
	default:
		return meta, nil
	}
	ts, err := tlsTransport(&tlsv3.UpstreamTlsContext{Sni: t.SNI, CommonTlsContext: shape.context(minTLS)})
	if err != nil {
		return meta, err
	}
	if !t.Auto {
		m.TransportSocket = ts
		return meta, nil
	}
	raw, err := pack(new(rawv3.RawBuffer))
	if err != nil {
		return meta, err
	}
	m.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{
		{Name: "tlsMode-istio", Match: tlsModeMatch(), TransportSocket: ts},
		{Name: "tlsMode-disabled", TransportSocket: &corev3.TransportSocket{Name: rawSocket, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: raw}}},
	}
	return meta, nil
}

// fileShape names files as Istio does for its agent.
func fileShape(t mesh.ClientTLS) (tlsShape, error) {
	s := tlsShape{noVerify: t.InsecureSkipVerify, sans: t.SubjectAltNames}
	if !s.noVerify {
		s.roots = fileRootPrefix + t.CACertificates // empty: the system's
	}
	if t.ClientCertificate != "" || t.PrivateKey != "" {
		if strings.Contains(t.ClientCertificate+t.PrivateKey, "~") {
			return s, fmt.Errorf("tls: file names with ~ are not supported")
		}
		s.cert = fileCertPrefix + t.ClientCertificate + "~" + t.PrivateKey
	}
	return s, nil
}

func identities(eps []mesh.Endpoint) []string {
	var out []string
	for _, ep := range eps {
		if ep.Identity != "" {
			out = append(out, ep.Identity)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// readClientTLS is the reverse of clientTLS. What is spoken is taken from the
// transport sockets; the words in the metadata must agree with them.
func readClientTLS(m *clusterv3.Cluster, meta clientMeta) (mesh.ClientTLS, error) {
	t := mesh.ClientTLS{Mode: meta.Mode, Auto: meta.Auto, Origin: meta.Origin}
	ts, err := clientSocket(m, meta)
	if err != nil || ts == nil {
		return t, err
	}
	up := new(tlsv3.UpstreamTlsContext)
	if err := readTransport(ts, up); err != nil {
		return t, fmt.Errorf("transport_socket: %w", err)
	}
	if err := only(up, "common_tls_context", "sni"); err != nil {
		return t, fmt.Errorf("transport_socket: %w", err)
	}
	shape, err := readContext(up.GetCommonTlsContext())
	if err != nil {
		return t, fmt.Errorf("transport_socket: %w", err)
	}
	t.SNI = up.GetSni()
	if !meta.AnySAN {
		t.SubjectAltNames = shape.sans
	}
	if meta.Mode == mesh.ClientSimple || meta.Mode == mesh.ClientMutual {
		return t, readFileShape(&t, shape)
	}
	if shape.cert != ownCert || shape.roots != meshRoots {
		return t, fmt.Errorf("transport_socket: secrets %q and %q are not supported in mode %s, %q and %q are", shape.cert, shape.roots, word(meta), ownCert, meshRoots)
	}
	return t, nil
}

// clientSocket picks the TLS socket of the form that the mode has; nil for
// plaintext.
func clientSocket(m *clusterv3.Cluster, meta clientMeta) (*corev3.TransportSocket, error) {
	matches := m.GetTransportSocketMatches()
	var want string
	switch {
	case meta.Mode == mesh.ClientUnset && meta.Auto:
		if m.GetTransportSocket() == nil && len(matches) == 2 && matches[0].GetMatch().GetFields()["tlsMode"].GetStringValue() == tlsModeIstio &&
			len(matches[1].GetMatch().GetFields()) == 0 && matches[1].GetTransportSocket().GetName() == rawSocket {
			return matches[0].GetTransportSocket(), nil
		}
		want = "transport_socket_matches for tlsMode istio and for the rest"
	case meta.Auto:
		return nil, fmt.Errorf("metadata hasp: auto with tls mode %s is not supported", meta.Mode)
	case meta.Mode == mesh.ClientUnset, meta.Mode == mesh.ClientDisable:
		if m.GetTransportSocket() == nil && len(matches) == 0 {
			return nil, nil
		}
		want = "no transport_socket"
	case meta.Mode == mesh.ClientSimple, meta.Mode == mesh.ClientMutual, meta.Mode == mesh.ClientIstioMutual:
		if m.GetTransportSocket() != nil && len(matches) == 0 {
			return m.GetTransportSocket(), nil
		}
		want = "a transport_socket and no transport_socket_matches"
	default:
		return nil, fmt.Errorf("metadata hasp: tls mode %q is not known", meta.Mode)
	}
	return nil, fmt.Errorf("tls mode %s must have %s", word(meta), want)
}

func readFileShape(t *mesh.ClientTLS, s tlsShape) error {
	t.InsecureSkipVerify = s.noVerify
	if !s.noVerify {
		file, ok := strings.CutPrefix(s.roots, fileRootPrefix)
		if !ok {
			return fmt.Errorf("transport_socket: roots %q are not supported in mode %s", s.roots, t.Mode)
		}
		t.CACertificates = file
	}
	if s.cert != "" {
		files, ok := strings.CutPrefix(s.cert, fileCertPrefix)
		cert, key, two := strings.Cut(files, "~")
		if !ok || !two || t.Mode != mesh.ClientMutual {
			return fmt.Errorf("transport_socket: certificate %q is not supported in mode %s", s.cert, t.Mode)
		}
		t.ClientCertificate, t.PrivateKey = cert, key
	}
	return nil
}

func word(m clientMeta) string {
	switch {
	case m.Auto:
		return "AUTO"
	case m.Mode == mesh.ClientUnset:
		return "UNSET"
	}
	return string(m.Mode)
}
