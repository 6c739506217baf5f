package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
)

const (
	clientLine = "CLIENT_TRAFFIC_SECRET_0 "
	serverLine = "SERVER_TRAFFIC_SECRET_0 "
	random     = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff "
	other      = "f0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff "
)

var (
	goodClient = clientLine + random + rfcClientSecret + "\n"
	goodServer = serverLine + random + rfcServerSecret + "\n"
)

func TestKeys(t *testing.T) {
	const (
		none = "record: the handshake logged no traffic secrets: is Secrets its KeyLogWriter?"
		fit  = "record: the traffic secrets do not fit TLS_AES_128_GCM_SHA256"
		two  = "record: the secrets are of more than one connection: each needs Secrets of its own"
	)
	for _, tc := range []struct{ name, log, want string }{
		{"both", goodClient + goodServer, ""},
		{"in the other order", goodServer + goodClient, ""},
		{"capital letters", goodClient + serverLine + random + strings.ToUpper(rfcServerSecret) + "\n", ""},
		{"CRLF and no last line's end", strings.TrimRight(strings.ReplaceAll(goodClient+goodServer, "\n", "\r\n"), "\r\n"), ""},
		{"among others", "# a comment\n\nCLIENT_HANDSHAKE_TRAFFIC_SECRET " + random + rfcServerSecret + "\n" + goodClient + "EXPORTER_SECRET " + random + rfcServerSecret + "\n" + goodServer, ""},
		{"nothing", "", none},
		{"TLS 1.2", "CLIENT_RANDOM " + random + rfcClientSecret + rfcServerSecret[:32] + "\n", none},
		{"one", goodClient, fit},
		{"one of another connection", goodClient + serverLine + other + rfcServerSecret + "\n", two},
		{"one twice", goodClient + goodServer + goodServer, two},
		{"those of another suite", clientLine + random + strings.Repeat("c1", 48) + "\n" + serverLine + random + strings.Repeat("5e", 48) + "\n", fit},
		{"too short", goodClient + serverLine + random + rfcServerSecret[2:] + "\n", fit},
		{"half a byte more", goodClient + serverLine + random + rfcServerSecret + "a\n", fit},
		{"too long", goodClient + serverLine + random + rfcServerSecret + "aa\n", fit},
		{"no hex", goodClient + serverLine + random + "x" + rfcServerSecret[1:] + "\n", fit},
		{"a short random", goodClient + serverLine + random[2:] + rfcServerSecret + "\n", fit},
		{"a random that is no hex", goodClient + serverLine + "x" + random[1:] + rfcServerSecret + "\n", fit},
		{"a fourth word", goodClient + serverLine + random + rfcServerSecret + " x\n", fit},
		{"two spaces", goodClient + serverLine + " " + random + rfcServerSecret + "\n", fit},
		{"later secrets", goodClient + "SERVER_TRAFFIC_SECRET_1 " + random + rfcServerSecret + "\n", fit},
	} {
		var s Secrets
		if n, err := io.WriteString(&s, tc.log); n != len(tc.log) || err != nil {
			t.Errorf("%s: wrote %d, %v", tc.name, n, err)
		}
		var held []*secret
		if s.p != nil {
			held = []*secret{s.p.client, s.p.server}
		}
		o, w, err := s.Keys(tls.TLS_AES_128_GCM_SHA256, true)
		if err == nil {
			err = errors.New("")
		}
		if err.Error() != tc.want || (o != nil) != (tc.want == "") || (w != nil) != (tc.want == "") {
			t.Errorf("%s: got %q, want %q", tc.name, err, tc.want)
		}
		for _, v := range held {
			if v != nil && *v != (secret{}) {
				t.Errorf("%s: the secrets are still there", tc.name)
			}
		}
		if _, _, err := s.Keys(tls.TLS_AES_128_GCM_SHA256, true); err == nil {
			t.Errorf("%s: keys twice", tc.name)
		}
	}
}

func TestSuites(t *testing.T) {
	for _, id := range []uint16{0, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, 0x1304} {
		s := written()
		want := fmt.Sprintf("record: %s is no cipher suite of TLS 1.3 that is known here", tls.CipherSuiteName(id))
		if _, _, err := s.Keys(id, true); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if s.p != nil {
			t.Errorf("%#x: the secrets are not forgotten", id)
		}
	}
	for _, suite := range tls.CipherSuites() { // a suite that crypto/tls learns is missed here
		if len(suite.SupportedVersions) == 1 && suite.SupportedVersions[0] == tls.VersionTLS13 && suiteOf(suite.ID) == nil {
			t.Errorf("%s is not known", suite.Name)
		}
	}
}

func written() *Secrets {
	var s Secrets
	_, _ = io.WriteString(&s, goodClient+goodServer)
	return &s
}

// The nonces are ours to make, which FIPS 140-3 leaves to crypto/tls.
func TestFIPS(t *testing.T) {
	const asked = "HASP_RECORD_TEST_FIPS"
	if os.Getenv(asked) != "" {
		if _, _, err := written().Keys(tls.TLS_AES_128_GCM_SHA256, true); err != nil {
			fmt.Println("refused:", err)
		}
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), asked+"=1", "GODEBUG=fips140=on")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused: record: in FIPS 140-3 mode records are left to crypto/tls\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Old secrets are overwritten, not only forgotten.
func TestWiped(t *testing.T) {
	o, s := linePair(t, suites[0].id, suites[0].secret)
	oldIn, oldOut := o.h, s.h
	b := make([]byte, UpdateSize)
	if _, err := s.Update(b, false); err != nil {
		t.Fatal(err)
	}
	p, _, err := o.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Handshake(p); err != nil {
		t.Fatal(err)
	}
	newIn, newOut := o.h, s.h
	if newIn.secret == (secret{}) || newIn.secret != newOut.secret {
		t.Error("no new secrets, or not the same")
	}
	o.Wipe()
	s.Wipe()
	for name, h := range map[string]*half{"old opener": oldIn, "old sealer": oldOut, "opener": newIn, "sealer": newOut} {
		if *h.material != (material{}) || h.aead != nil {
			t.Errorf("%s: something is left", name)
		}
	}
}

// Nothing that can be printed contains a byte of a secret, key or IV.
func TestNothingShows(t *testing.T) {
	o, s := rfcKeys(t, true)
	logged := written()
	type within struct { // as fields of others, where no method of ours is called
		Opener  *Opener
		Sealer  Sealer
		secrets Secrets
		opener  Opener
		sealer  Sealer
		at      *Secrets
	}
	holder := within{o, *s, *logged, *o, *s, logged}
	var errs []error
	bad := unhex(t, rfcServerData)
	bad[10] ^= 1
	_, _, err := o.Open(bad)
	errs = append(errs, err)
	_, err = s.Seal(nil, 5, TypeApplicationData)
	errs = append(errs, err)
	_, err = s.Update(nil, true)
	errs = append(errs, err)
	for _, id := range []uint16{tls.TLS_AES_256_GCM_SHA384, 7} {
		_, _, err = written().Keys(id, true)
		errs = append(errs, err)
	}
	spoiled := written()
	_, _ = io.WriteString(spoiled, goodClient)
	_, _, err = spoiled.Keys(tls.TLS_AES_128_GCM_SHA256, true)
	errs = append(errs, err)

	o, s = rfcKeys(t, true) // an Opener that failed has none
	values := []any{logged, *logged, o, *o, s, *s, holder, &holder, []any{o, s, logged}, map[string]any{"o": *o, "s": *s, "l": logged}, errs}
	for _, err := range errs {
		if err == nil {
			t.Fatal("no error to look at")
		}
		values = append(values, err)
	}
	var out bytes.Buffer
	text := slog.New(slog.NewTextHandler(&out, nil))
	object := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		fmt.Fprintln(&out, string(b), err)
		text.Info("x", "v", v)
		object.Info("x", "v", v)
	}
	for _, v := range []any{logged, o, s} {
		if fmt.Sprint(v) != "secret" || fmt.Sprintf("%#v", v) != "secret" {
			t.Errorf("%T prints %v", v, v)
		}
	}

	// What must not be there, in every way to write bytes.
	hidden := map[string][]byte{
		"the client's secret": unhex(t, rfcClientSecret), "the server's secret": unhex(t, rfcServerSecret),
		"the client's key": unhex(t, "17422dda596ed5d9acd890e3c63f5051"), "the client's IV": unhex(t, "5b78923dee08579033e523d9"),
		"the server's key": unhex(t, "9f02283b6c9c07efc26bb9f2ac92e356"), "the server's IV": unhex(t, "cf782b88dd83549aadf1e984"),
	}
	if !bytes.Equal(o.h.iv[:], hidden["the server's IV"]) || !bytes.Equal(s.h.iv[:], hidden["the client's IV"]) {
		t.Fatal("these are not the bytes to look for")
	}
	got := out.String()
	for name, b := range hidden {
		for i := 0; i+4 <= len(b); i++ {
			part := b[i : i+4]
			for _, written := range []string{
				string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
				strings.Trim(fmt.Sprint(part), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(part), "[]"), " ", ","),
				strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"),
			} {
				if strings.Contains(got, written) {
					t.Errorf("%s shows in what was printed", name) // not the text, it is in a log
				}
			}
		}
	}
}

// What the admin page gives away of the process has no contents of its memory.
func TestProfilesHoldNone(t *testing.T) {
	o, s := rfcKeys(t, true)
	logged := written()
	var out bytes.Buffer
	for _, name := range []string{"heap", "allocs", "goroutine"} {
		for _, debug := range []int{1, 2} { // 0 is 1, compressed
			if err := pprof.Lookup(name).WriteTo(&out, debug); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.KeepAlive([]any{o, s, logged})
	if !strings.Contains(out.String(), "TestProfilesHoldNone") {
		t.Fatal("no profile of this test")
	}
	got := strings.ToLower(out.String())
	for _, secret := range []string{rfcClientSecret, rfcServerSecret} {
		b := unhex(t, secret)
		for i := 0; i+8 <= len(b); i++ {
			part := b[i : i+8]
			swapped := bytes.Clone(part) // as a word of memory is printed
			slices.Reverse(swapped)
			for _, written := range []string{string(part), hex.EncodeToString(part), hex.EncodeToString(swapped)} {
				if strings.Contains(got, written) || bytes.Contains(out.Bytes(), []byte(written)) {
					t.Error("a secret shows in a profile")
				}
			}
		}
	}
}
