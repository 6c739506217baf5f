package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what differs between the cipher suites of TLS 1.3.
type suite struct {
	key, secret int // bytes
	hash        func() hash.Hash
	aead        func(key []byte) (cipher.AEAD, error)
	due         uint64 // records to seal with a key before the next one
}

// gcmDue is well below the 2^24.5 records that RFC 8446, section 5.5, allows for
// a key; ChaCha20 has no such limit.
const gcmDue = 1 << 23

func suiteOf(id uint16) *suite {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return &aes128
	case tls.TLS_AES_256_GCM_SHA384:
		return &aes256
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return &chacha
	}
	return nil
}

var (
	aes128 = suite{16, sha256.Size, sha256.New, newGCM, gcmDue}
	aes256 = suite{32, sha512.Size384, sha512.New384, newGCM, gcmDue}
	chacha = suite{chacha20poly1305.KeySize, sha256.Size, sha256.New, chacha20poly1305.New, maxSeq / 2}
)

func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// maxSeq ends a connection whose keys were never updated, long before a nonce
// could come twice.
const maxSeq = 1 << 48

// half is one direction of a connection.
type half struct {
	suite *suite
	aead  cipher.AEAD // nil while it dozes; see awake
	seq   uint64
	*material
}

// material is what nobody may see. It is two pointers away from what this package
// gives out: fmt follows the first one, inside of whatever struct it may be, when
// it is told to print with a verb that does not fit.
type material struct {
	iv     [12]byte
	nonce  [12]byte // of the record in hand, here to be no garbage
	secret secret   // what the next keys are made of
}

// secret has room for the longest: an array leaves no copies behind when it is
// cleared, as a slice that grew would.
type secret struct {
	b [sha512.Size384]byte
	n int
}

func (s *secret) bytes() []byte { return s.b[:s.n] }
func (s *secret) wipe()         { *s = secret{} }

func newHalf(u *suite, s *secret) (*half, error) {
	h := &half{suite: u, material: &material{secret: *s}}
	iv, err := expand(u, s, "iv", len(h.iv))
	if err != nil {
		return nil, err
	}
	defer clear(iv)
	copy(h.iv[:], iv)
	return h, h.makeCipher()
}

func (h *half) makeCipher() error {
	key, err := expand(h.suite, &h.secret, "key", h.suite.key)
	if err != nil {
		return err
	}
	defer clear(key)
	h.aead, err = h.suite.aead(key)
	return err
}

// awake tells whether there is a cipher, which one that dozes gets again and one
// that was wiped does not.
func (h *half) awake() bool {
	return h.aead != nil || h.secret.n > 0 && h.makeCipher() == nil
}

// doze gives the cipher back until it is asked for.
func (h *half) doze() { h.aead = nil }

// next is the half with the keys that follow (RFC 8446, section 7.2).
func (h *half) next() (*half, error) {
	b, err := expand(h.suite, &h.secret, "traffic upd", h.suite.secret)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	s := secret{n: len(b)}
	copy(s.b[:], b)
	defer s.wipe()
	return newHalf(h.suite, &s)
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func expand(u *suite, s *secret, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := make([]byte, 0, 32)
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(u.hash, s.bytes(), string(info), n)
}

// use makes the nonce of the record with the current number, and counts it.
func (h *half) use() []byte {
	h.nonce = h.iv
	tail := h.nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^h.seq)
	h.seq++
	return h.nonce[:]
}

// wipe leaves a half that can do nothing.
func (h *half) wipe() {
	*h.material = material{}
	h.aead, h.seq = nil, 0
}
