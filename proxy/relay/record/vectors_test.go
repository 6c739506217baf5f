package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"testing"
)

// The simple 1-RTT handshake of RFC 8448, section 3: its application traffic
// secrets, and the records under them.
const (
	rfcClientSecret = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
	rfcServerSecret = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

	rfcTicket = "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d4" +
		"1d6af8f6b580dcf3d11d63c758db289a015940252f55713e061dc13e078891a3" +
		"8efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e0" +
		"9c30ba1e62972ac46f75f7b981be63439b2999ce13064615139891d5e4c5b406" +
		"f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c8651" +
		"9d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74" +
		"bc2697687e248746d6df353005f3bce18696129c8153556b3b6c6779b37bf159" +
		"85684f"
	rfcClientData = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f" +
		"2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae6" +
		"3aeebb21694915e4"
	rfcServerData = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36" +
		"e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf33254" +
		"0dd032e167c2955d"
	rfcClientAlert = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"
	rfcServerAlert = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keysOf are those of one side of a connection with these secrets, in hex.
func keysOf(t testing.TB, suite uint16, client bool, clientSecret, serverSecret string) (*Opener, *Sealer) {
	t.Helper()
	var s Secrets
	random := fmt.Sprintf("%064d", 1)
	fmt.Fprintf(&s, "CLIENT_TRAFFIC_SECRET_0 %s %s\n", random, clientSecret)
	fmt.Fprintf(&s, "SERVER_TRAFFIC_SECRET_0 %s %s\n", random, serverSecret)
	o, w, err := s.Keys(suite, client)
	if err != nil {
		t.Fatal(err)
	}
	return o, w
}

func rfcKeys(t testing.TB, client bool) (*Opener, *Sealer) {
	t.Helper()
	return keysOf(t, tls.TLS_AES_128_GCM_SHA256, client, rfcClientSecret, rfcServerSecret)
}

func TestRFC8448(t *testing.T) {
	data := make([]byte, 50)
	for i := range data {
		data[i] = byte(i)
	}
	closing := []byte{1, 0}
	clientIn, clientOut := rfcKeys(t, true)
	serverIn, serverOut := rfcKeys(t, false)
	for _, tc := range []struct {
		name  string
		open  *Opener
		seal  *Sealer
		typ   byte
		plain []byte // nil when only its type is known here
		rec   string
	}{
		{"the server's ticket", clientIn, serverOut, TypeHandshake, nil, rfcTicket},
		{"the client's data", serverIn, clientOut, TypeApplicationData, data, rfcClientData},
		{"the server's data", clientIn, serverOut, TypeApplicationData, data, rfcServerData},
		{"the client's alert", serverIn, clientOut, TypeAlert, closing, rfcClientAlert},
		{"the server's alert", clientIn, serverOut, TypeAlert, closing, rfcServerAlert},
	} {
		want := unhex(t, tc.rec)
		plain, typ, err := tc.open.Open(bytes.Clone(want))
		if err != nil || typ != tc.typ || tc.plain != nil && !bytes.Equal(plain, tc.plain) {
			t.Fatalf("%s: opened as type %d, %x, %v", tc.name, typ, plain, err)
		}
		switch typ {
		case TypeHandshake:
			if answer, err := tc.open.Handshake(plain); answer || err != nil {
				t.Errorf("%s: %v, %v", tc.name, answer, err)
			}
		case TypeAlert:
			if a, err := ParseAlert(plain); a != CloseNotify || err != nil {
				t.Errorf("%s: %v, %v", tc.name, a, err)
			}
		}
		b := make([]byte, len(want))
		n := 0
		if typ == TypeAlert {
			n, err = tc.seal.Alert(b, CloseNotify)
		} else {
			n, err = tc.seal.Seal(b, copy(b[HeaderLen:], plain), typ)
		}
		if err != nil || !bytes.Equal(b[:n], want) {
			t.Errorf("%s: sealed as %x, %v", tc.name, b[:n], err)
		}
	}
}
