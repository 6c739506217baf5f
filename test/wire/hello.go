package wire

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

const (
	typeClientHello = 1
	typeServerHello = 2

	extensionALPN     = 16
	extensionVersions = 43
)

// pgSSLRequest is what a PostgreSQL client asks before TLS; the server answers
// with one byte.
var pgSSLRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// afterStartTLS skips what two PostgreSQL ends say to each other before TLS.
func afterStartTLS(client, server []byte) ([]byte, []byte) {
	if rest, ok := bytes.CutPrefix(client, pgSSLRequest); ok && len(server) > 0 {
		return rest, server[1:]
	}
	return client, server
}

// handshake is the first handshake message of TLS records, when it is of the
// wanted type. A message may span records.
func handshake(data []byte, wanted uint8) (cryptobyte.String, bool) {
	records, message := cryptobyte.String(data), []byte(nil)
	for {
		var kind uint8
		var version uint16
		var body cryptobyte.String
		if !records.ReadUint8(&kind) || !records.ReadUint16(&version) || !records.ReadUint16LengthPrefixed(&body) ||
			kind != 22 || version>>8 != 3 {
			return nil, false
		}
		message = append(message, body...)
		s := cryptobyte.String(message)
		var msgType uint8
		var msg cryptobyte.String
		if s.ReadUint8(&msgType) && msgType != wanted {
			return nil, false
		}
		if s.ReadUint24LengthPrefixed(&msg) {
			return msg, true
		}
	}
}

// skipHello reads what both hellos begin with: version, random, session.
func skipHello(s *cryptobyte.String) (version uint16, ok bool) {
	var session cryptobyte.String
	ok = s.ReadUint16(&version) && s.Skip(32) && s.ReadUint8LengthPrefixed(&session)
	return version, ok
}

// extension finds one in a list of them.
func extension(list cryptobyte.String, wanted uint16) (cryptobyte.String, bool) {
	for !list.Empty() {
		var id uint16
		var body cryptobyte.String
		if !list.ReadUint16(&id) || !list.ReadUint16LengthPrefixed(&body) {
			return nil, false
		}
		if id == wanted {
			return body, true
		}
	}
	return nil, false
}

// clientALPN is what a ClientHello (RFC 8446, 4.1.2) at the start of data
// offers; nil when there is none.
func clientALPN(data []byte) []string {
	s, ok := handshake(data, typeClientHello)
	if !ok {
		return nil
	}
	var suites, compression, list, protocols cryptobyte.String
	if _, ok := skipHello(&s); !ok || !s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compression) ||
		!s.ReadUint16LengthPrefixed(&list) {
		return nil
	}
	body, ok := extension(list, extensionALPN)
	if !ok || !body.ReadUint16LengthPrefixed(&protocols) {
		return nil
	}
	var out []string
	for !protocols.Empty() {
		var p cryptobyte.String
		if !protocols.ReadUint8LengthPrefixed(&p) {
			return nil
		}
		out = append(out, string(p))
	}
	return out
}

// serverVersion is what the ServerHello (RFC 8446, 4.1.3) at the start of data
// chose; empty when there is none.
func serverVersion(data []byte) string {
	s, ok := handshake(data, typeServerHello)
	if !ok {
		return ""
	}
	version, ok := skipHello(&s)
	var suite uint16
	var compression uint8
	if !ok || !s.ReadUint16(&suite) || !s.ReadUint8(&compression) {
		return ""
	}
	var list cryptobyte.String
	if s.ReadUint16LengthPrefixed(&list) {
		if body, found := extension(list, extensionVersions); found && !body.ReadUint16(&version) {
			return ""
		}
	}
	switch version {
	case 0x0301:
		return "1.0"
	case 0x0302:
		return "1.1"
	case 0x0303:
		return "1.2"
	case 0x0304:
		return "1.3"
	}
	return fmt.Sprintf("%#04x", version)
}
