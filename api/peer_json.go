package api

import (
	"encoding/json"
	"fmt"
)

// MTLSStrict and MTLSPermissive are the modes of a Policy's mtls peer, the words
// of istio.authentication.v1alpha1.MutualTls.Mode.
const (
	MTLSStrict     = "STRICT"
	MTLSPermissive = "PERMISSIVE"
)

// peerWire is a PeerMethod as users write it. A pointer cannot tell "mtls:" with
// nothing behind it from no mtls at all, so PeerMethod looks for the key itself.
type peerWire struct {
	MTLS *mtlsWire `json:"mtls,omitempty"`
	JWT  *JWT      `json:"jwt,omitempty"`
}

// mtlsWire is istio.authentication.v1alpha1.MutualTls.
type mtlsWire struct {
	AllowTLS bool   `json:"allowTls,omitempty"`
	Mode     string `json:"mode,omitempty"`
}

// UnmarshalJSON reads a peer. "mtls: {}", "mtls:" with null and a mode that is
// not written all mean STRICT, because STRICT is the zero value of the message
// in Istio 1.4. A mode it does not know is kept as it is for Validate to refuse.
func (p *PeerMethod) UnmarshalJSON(b []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	*p = PeerMethod{}
	if raw, ok := keys["mtls"]; ok {
		var m mtlsWire
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("peer: mtls: %w", err)
		}
		p.HasMTLS, p.AllowTLS, p.MTLSMode = true, m.AllowTLS, m.Mode
		if p.MTLSMode == "" {
			p.MTLSMode = MTLSStrict
		}
	}
	raw, ok := keys["jwt"]
	p.HasJWT = ok && string(raw) != "null"
	return nil
}

// MarshalJSON writes a peer with its mode spelled out. Of a jwt peer, which is
// refused anyway, it keeps only that it was there.
func (p PeerMethod) MarshalJSON() ([]byte, error) {
	var w peerWire
	if p.HasMTLS {
		w.MTLS = &mtlsWire{AllowTLS: p.AllowTLS, Mode: p.MTLSMode}
	}
	if p.HasJWT {
		w.JWT = &JWT{}
	}
	return json.Marshal(w)
}
