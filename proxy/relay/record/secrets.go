package record

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
)

// Secrets takes the two traffic secrets of one connection out of what crypto/tls
// logs: it is the KeyLogWriter of a tls.Config that serves this connection only.
// The zero value is ready.
type Secrets struct {
	hidden
	p *pair
}

type pair struct {
	random         [32]byte // of the ClientHello, the log's name of a connection
	spoiled        bool     // by lines of more than one
	client, server *secret  // pointers for material's reason
}

// Write takes lines of the key log and keeps what it is there for. What it does
// not understand it drops without a word: an error would end the handshake, and
// could show a secret.
func (s *Secrets) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		s.line(bytes.TrimRight(line, "\r\n"))
	}
	return len(p), nil
}

func (s *Secrets) line(b []byte) {
	label, b, _ := bytes.Cut(b, []byte(" "))
	random, value, _ := bytes.Cut(b, []byte(" "))
	isClient := string(label) == "CLIENT_TRAFFIC_SECRET_0"
	if !isClient && string(label) != "SERVER_TRAFFIC_SECRET_0" {
		return
	}
	var r [32]byte
	v := &secret{n: len(value) / 2}
	if v.n != sha256.Size && v.n != sha512.Size384 || len(random) != 2*len(r) {
		return
	}
	if _, err := hex.Decode(r[:], random); err != nil {
		return
	}
	if n, err := hex.Decode(v.b[:], value); err != nil || n != v.n {
		v.wipe()
		return
	}
	if s.p == nil {
		s.p = &pair{random: r}
	}
	to := &s.p.server
	if isClient {
		to = &s.p.client
	}
	if s.p.random != r || *to != nil {
		v.wipe()
		s.p.spoiled = true
		return
	}
	*to = v
}

// Keys makes the two directions of a connection whose handshake is over, with
// the CipherSuite of its tls.ConnectionState; client tells on which side of it we
// are. The secrets are wiped, whatever the answer is.
func (s *Secrets) Keys(suite uint16, client bool) (*Opener, *Sealer, error) {
	defer s.Wipe()
	u := suiteOf(suite)
	switch {
	case u == nil:
		return nil, nil, fmt.Errorf("record: %s is no cipher suite of TLS 1.3 that is known here", tls.CipherSuiteName(suite))
	case fips140.Enabled():
		return nil, nil, errors.New("record: in FIPS 140-3 mode records are left to crypto/tls")
	case s.p == nil:
		return nil, nil, errors.New("record: the handshake logged no traffic secrets: is Secrets its KeyLogWriter?")
	case s.p.spoiled:
		return nil, nil, errors.New("record: the secrets are of more than one connection: each needs Secrets of its own")
	case !s.p.fits(u):
		return nil, nil, fmt.Errorf("record: the traffic secrets do not fit %s", tls.CipherSuiteName(suite))
	}
	in, out := s.p.client, s.p.server
	if client {
		in, out = out, in
	}
	opens, err := newHalf(u, in)
	if err != nil {
		return nil, nil, fmt.Errorf("record: the keys: %w", err)
	}
	seals, err := newHalf(u, out)
	if err != nil {
		return nil, nil, fmt.Errorf("record: the keys: %w", err)
	}
	return &Opener{h: opens, messages: messages{client: client}}, &Sealer{h: seals}, nil
}

func (p *pair) fits(u *suite) bool {
	return p.client != nil && p.client.n == u.secret && p.server != nil && p.server.n == u.secret
}

// Wipe forgets the secrets, for a connection that needs them no more.
func (s *Secrets) Wipe() {
	if s.p == nil {
		return
	}
	for _, v := range []*secret{s.p.client, s.p.server} {
		if v != nil {
			v.wipe()
		}
	}
	s.p = nil
}
