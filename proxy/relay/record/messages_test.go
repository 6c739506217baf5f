package record

import "testing"

func msg(typ byte, body ...byte) []byte {
	n := len(body)
	return append([]byte{typ, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func join(p ...[]byte) (all []byte) {
	for _, b := range p {
		all = append(all, b...)
	}
	return all
}

func TestMessages(t *testing.T) {
	const ticket, keys = msgNewSessionTicket, msgKeyUpdate
	largest := msg(ticket, make([]byte, maxMessage)...)
	for _, tc := range []struct {
		name    string
		server  bool // we are it
		records [][]byte
		want    update // of the last record
		alert   Alert
	}{
		{"an update", false, [][]byte{msg(keys, 0)}, updated, 0},
		{"an update that asks for one", false, [][]byte{msg(keys, 1)}, updateRequested, 0},
		{"to a server", true, [][]byte{msg(keys, 1)}, updateRequested, 0},
		{"in pieces of a byte", false, [][]byte{{keys}, {0}, {0}, {1}, {1}}, updateRequested, 0},
		{"head and body", false, [][]byte{{keys, 0, 0, 1}, {0}}, updated, 0},
		{"a ticket", false, [][]byte{msg(ticket, 1, 2, 3)}, noUpdate, 0},
		{"an empty ticket", false, [][]byte{msg(ticket)}, noUpdate, 0},
		{"two tickets and an update", false, [][]byte{join(msg(ticket, 1, 2, 3), msg(ticket, 4), msg(keys, 1))}, updateRequested, 0},
		{"the largest ticket", false, [][]byte{largest[:16000], largest[16000:32000], largest[32000:64000], join(largest[64000:], msg(keys, 0))}, updated, 0},
		{"a ticket across records, an update after it", false, [][]byte{{ticket, 0, 0, 9, 1, 2}, join([]byte{3, 4, 5, 6, 7, 8, 9}, msg(keys, 1))}, updateRequested, 0},
		{"the beginning of a ticket", false, [][]byte{{ticket, 0, 0}}, noUpdate, 0},

		{"an update that is no end of a record", false, [][]byte{join(msg(keys, 0), msg(ticket))}, noUpdate, UnexpectedMessage},
		{"two updates", false, [][]byte{join(msg(keys, 0), msg(keys, 0))}, noUpdate, UnexpectedMessage},
		{"an update and a byte", false, [][]byte{append(msg(keys, 0), 0)}, noUpdate, UnexpectedMessage},
		{"an update that asks for something else", false, [][]byte{msg(keys, 2)}, noUpdate, IllegalParameter},
		{"an update of no byte", false, [][]byte{msg(keys)}, noUpdate, DecodeError},
		{"an update of two", false, [][]byte{msg(keys, 0, 0)}, noUpdate, DecodeError},
		{"a ticket too large", false, [][]byte{{ticket, 1, 0, 1}}, noUpdate, DecodeError},
		{"a ticket to a server", true, [][]byte{msg(ticket, 1)}, noUpdate, UnexpectedMessage},
		{"a ClientHello", true, [][]byte{{1, 0, 0, 0}}, noUpdate, UnexpectedMessage},
		{"a HelloRequest of old", false, [][]byte{{0, 0, 0, 0}}, noUpdate, UnexpectedMessage},
		{"a Finished", false, [][]byte{{20, 0, 0, 32}}, noUpdate, UnexpectedMessage},
		{"a CertificateRequest nobody offered", false, [][]byte{{13, 0, 0, 2}}, noUpdate, UnexpectedMessage},
	} {
		m := messages{client: !tc.server}
		var got update
		var alert Alert
		for i, p := range tc.records {
			if got, alert = m.add(p); i < len(tc.records)-1 && (got != noUpdate || alert != 0) {
				t.Errorf("%s: record %d: %v, %v", tc.name, i, got, alert)
			}
		}
		if got != tc.want || alert != tc.alert {
			t.Errorf("%s: got %v, %v, want %v, %v", tc.name, got, alert, tc.want, tc.alert)
		}
	}
}
