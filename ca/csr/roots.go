package csr

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// maxRoots bounds the file of the roots, in bytes: as many as a ConfigMap holds.
const maxRoots = 1 << 20

// trust is what peers are verified against: the roots that came with the last
// certificate, and those of the file. Both are kept, since either may be the
// newer one: whoever trusts too little for a moment breaks connections, and
// whoever trusts too much for a moment renews within seconds (see news).
type trust struct {
	given []byte // PEM: of the last answer, or those the Source was made with
	filed []byte // PEM: of RootsFile as it was read last
	pool  *x509.CertPool
	err   string // what was wrong with the file, and logged
}

// set puts roots in use. The old pool stays as it is for who holds it.
func (t *trust) set(given, filed []byte) {
	if t.pool != nil && bytes.Equal(given, t.given) && bytes.Equal(filed, t.filed) {
		return
	}
	t.given, t.filed, t.pool = given, filed, x509.NewCertPool()
	t.pool.AppendCertsFromPEM(given)
	t.pool.AppendCertsFromPEM(filed)
}

// readRoots reads RootsFile, if there is one. It is an error only as long as
// there is nothing to verify anybody against: a file that goes bad later is
// logged, and the roots it had stay in use.
func (s *Source) readRoots() error {
	if s.cfg.RootsFile == "" {
		return nil
	}
	data, err := readFile(s.cfg.RootsFile, maxRoots)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
		err = fmt.Errorf("%s holds no certificate", s.cfg.RootsFile)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.trust.pool == nil {
			return fmt.Errorf("roots: %w", err)
		}
		if s.trust.err != err.Error() {
			s.trust.err = err.Error()
			s.cfg.Log.Warn("roots not read, the ones before stay", slog.Any("err", err))
		}
		return nil
	}
	s.trust.err = ""
	if bytes.Equal(data, s.trust.filed) {
		return nil
	}
	s.trust.set(s.trust.given, data)
	close(s.changed)
	s.changed = make(chan struct{})
	select {
	case s.news <- struct{}{}:
	default: // it is said already
	}
	return nil
}

// token is what proves the workload in one request. A kubelet replaces the file
// long before the token in it ends.
func (s *Source) token() (string, error) {
	if s.cfg.TokenFile == "" {
		return s.cfg.Token, nil
	}
	data, err := readFile(s.cfg.TokenFile, maxToken)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	// RFC 6750, section 2.1; what is not a token is not put into a header, and
	// not into an error either.
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token: %s holds no token", s.cfg.TokenFile)
	}
	return token, nil
}

// readFile reads a file that somebody else keeps fresh, up to a size.
func readFile(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > most:
		return nil, fmt.Errorf("%s has more than %d bytes", name, most)
	case len(data) == 0:
		return nil, errors.New(name + " is empty")
	}
	return data, nil
}
