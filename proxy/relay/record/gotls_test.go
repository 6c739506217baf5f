package record

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// crypto/tls at the other end, whichever end that is.
func TestWithCryptoTLS(t *testing.T) {
	cert, _ := certificate(t)
	client := &tls.Config{InsecureSkipVerify: true}
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, tc := range []struct {
		name   string
		client bool // we are
	}{{"as client", true}, {"as server", false}} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			ours, theirs := client, tls.Server(pieces{b}, server)
			if !tc.client {
				ours, theirs = server, tls.Client(pieces{b}, client)
			}
			done := make(chan error, 1)
			go func() { done <- theirs.Handshake() }()
			l, err := newLine(pieces{a}, ours, tc.client)
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			t.Logf("suite %s", tls.CipherSuiteName(theirs.ConnectionState().CipherSuite))
			if err := exchange(l, theirs, 2<<20); err != nil {
				t.Error(err)
			}
			if l.updates == 0 {
				t.Error("crypto/tls never changed its keys")
			}
		})
	}
}

// Without the processor's AES crypto/tls prefers ChaCha20.
func TestChaChaWithCryptoTLS(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWithCryptoTLS$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=cpu.aes=off")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "suite TLS_CHACHA20_POLY1305_SHA256\n") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

// What an Opener finds wrong, and the alert for it, is what crypto/tls is told.
func TestCryptoTLSIsToldWhy(t *testing.T) {
	cert, _ := certificate(t)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	theirs := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}})
	done := make(chan error, 1)
	go func() { done <- theirs.Handshake() }()
	l, err := newLine(a, &tls.Config{InsecureSkipVerify: true}, true)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	go func() {
		done <- l.send(func(b []byte) (int, error) { return l.seal.Alert(b, BadRecordMAC) })
	}()
	_, err = theirs.Read(make([]byte, 1))
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert); alert != tls.AlertError(BadRecordMAC) && (!errors.As(err, &op) || op.Err.Error() != "tls: bad record MAC") {
		t.Errorf("crypto/tls reads %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
