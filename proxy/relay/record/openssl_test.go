package record

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// openssl is a running s_client or s_server. Lines written to it are sent to the
// peer, but for a line of one letter, which is a command, when it is all that one
// read gives it. What the peer sends comes out among its own words.
type openssl struct {
	t   *testing.T
	in  io.Writer
	out io.Reader

	heard string
}

func startOpenSSL(t *testing.T, args ...string) *openssl {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, program, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	return &openssl{t: t, in: in, out: out}
}

func (o *openssl) say(line string) {
	o.t.Helper()
	if _, err := io.WriteString(o.in, line+"\n"); err != nil {
		o.t.Fatalf("openssl: %v", err)
	}
}

// hears waits for its output to match and returns what does.
func (o *openssl) hears(pattern string) string {
	o.t.Helper()
	match := regexp.MustCompile(pattern)
	b := make([]byte, 4096)
	for {
		// A remark that comes anywhere, in the middle of our lines too.
		o.heard = strings.ReplaceAll(o.heard, "SSL_do_handshake -> 1\n", "")
		if found := match.FindString(o.heard); found != "" {
			return found
		}
		n, err := o.out.Read(b)
		if o.heard += string(b[:n]); err != nil {
			o.t.Fatalf("openssl ended before it said %q: %v\n%s", pattern, err, o.heard)
		}
	}
}

// OpenSSL at the other end, with each suite, and new keys by whoever wants them.
func TestWithOpenSSL(t *testing.T) {
	cert, text := certificate(t)
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites {
		name := tls.CipherSuiteName(suite.id)
		t.Run("as client "+name, func(t *testing.T) {
			o := startOpenSSL(t, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", file, "-key", file, "-tls1_3", "-ciphersuites", name)
			at := strings.TrimSpace(strings.TrimPrefix(o.hears(`ACCEPT 127.0.0.1:[0-9]+\n`), "ACCEPT "))
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			talk(t, o, c, &tls.Config{InsecureSkipVerify: true}, suite.id, true)
		})
		t.Run("as server "+name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			o := startOpenSSL(t, "s_client", "-connect", ln.Addr().String(), "-tls1_3", "-ciphersuites", name)
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			talk(t, o, c, &tls.Config{Certificates: []tls.Certificate{cert}}, suite.id, false)
		})
	}
}

func talk(t *testing.T, o *openssl, c net.Conn, config *tls.Config, suite uint16, client bool) {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	l, err := newLine(pieces{c}, config, client)
	if err != nil {
		t.Fatal(err)
	}
	if l.open.h.suite != suiteOf(suite) {
		t.Fatal("another suite than was asked for")
	}
	in := bufio.NewReader(l)
	n := 0
	both := func() { // a line each way, of one record and of many
		t.Helper()
		n++
		want := fmt.Sprintf("from openssl %d", n)
		o.say(want)
		if got, err := in.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("got %q, want %q, %v", got, want, err)
		}
		want = fmt.Sprintf("to openssl %d", n)
		for _, part := range []string{want[:5], "", want[5:], "\n"} {
			if err := l.data([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		o.hears(want + `\n`)
	}
	// The keys of openssl's direction change; a record that is no data ends the wait.
	theirs := func(want int) {
		t.Helper()
		for l.updates < want {
			if err := l.record(); err != nil {
				t.Fatalf("waiting for new keys: %v", err)
			}
		}
	}
	both()
	o.say("k") // new keys of its own
	theirs(1)
	both()
	o.say("K") // and it wants ours to be new
	theirs(2)
	both()
	if err := l.update(false); err != nil {
		t.Fatal(err)
	}
	both()
	if err := l.update(true); err != nil {
		t.Fatal(err)
	}
	both()
	both()
	if l.updates != 3 { // the answer goes before the line after the one it read
		t.Errorf("openssl changed its keys %d times, want 3", l.updates)
	}
	if err := l.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := in.ReadByte(); err != io.EOF { // its close_notify
		t.Errorf("at the end: %v", err)
	}
}
