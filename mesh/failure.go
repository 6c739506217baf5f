package mesh

import "time"

// How far a connection came that did not come about.
const (
	StageDial      = "dial"      // to an endpoint, or to the workload itself
	StageHandshake = "handshake" // of TLS, or waiting for it
	StagePolicy    = "policy"    // an object, or the lack of one, forbids it: Connection.Rule
	// StageAnswer is past all of these, but the other end gave up before its first
	// byte: it may have refused what this end took for settled, as a server of TLS
	// 1.3 does with a certificate and a STRICT one with plaintext.
	StageAnswer = "answer"
)

// Why a connection did not come about. A counter has it as a label, so it is one
// of these.
const (
	// Of the certificate presented by the other end.
	ReasonUnknownAuthority   = "unknown_authority"
	ReasonExpired            = "expired"
	ReasonNotYetValid        = "not_yet_valid"
	ReasonInvalidCertificate = "invalid_certificate" // no X.509-SVID, for another use, ...
	ReasonWrongIdentity      = "wrong_identity"
	ReasonOtherTrustDomain   = "other_trust_domain"
	ReasonNoCertificate      = "no_client_certificate"

	ReasonNoOwnCertificate = "no_own_certificate" // this proxy has none yet, or no roots
	ReasonPlaintext        = "plaintext"          // from the other end, where TLS is required
	ReasonDenied           = "denied"             // by an AuthorizationPolicy
	ReasonNoService        = "no_service"         // claims the address, under REGISTRY_ONLY

	// Of what the other end did, without saying more (Failure.ByPeer).
	ReasonAlert  = "alert"  // of TLS
	ReasonReset  = "reset"  // of TCP
	ReasonClosed = "closed" // in order, but too early

	ReasonRefused      = "refused" // by the kernel: nobody listens there
	ReasonNotListening = "not_listening"
	ReasonUnreachable  = "unreachable"
	ReasonNoEndpoint   = "no_endpoint"
	ReasonTimeout      = "timeout"

	ReasonNoConfiguration = "no_configuration" // this proxy has none yet
	ReasonOther           = "other"
)

// Failure is the post-mortem of a connection that did not come about: what one
// end expected and what it was shown.
type Failure struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
	Error  string `json:"error"` // as the TLS library or the kernel says it
	// ByPeer says that the other end gave up and this one only saw an alert or a
	// reset: the reason is in the other end's record.
	ByPeer    bool         `json:"byPeer,omitempty"`
	Expected  []string     `json:"expected,omitempty"` // identities, one of which was
	Presented *Certificate `json:"presented,omitempty"`
	Own       *Certificate `json:"own,omitempty"`
	// TrustDomain that this end belongs to.
	TrustDomain string    `json:"trustDomain,omitempty"`
	SNI         string    `json:"sni,omitempty"`
	Offered     []string  `json:"offered,omitempty"` // ALPN protocols, by the client
	At          time.Time `json:"at"`                // by this end's clock
}

// Certificate is what matters of an X.509 certificate to a person who asks why
// it was refused. Nothing of it is trusted.
type Certificate struct {
	Identity  string    `json:"identity,omitempty"` // SPIFFE ID, or other names when it has none
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}
