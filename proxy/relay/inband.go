package relay

import "errors"

// Keeper is a [Relayer] that can leave a TLS connection open when a stream on it
// has ended, so that it carries another ([Side.InBand]).
type Keeper interface {
	Keeps() bool
}

// InBand says, before a relay, that streams on the side end by a record and not
// with the connection. The peer must have agreed to it.
func (s *Side) InBand() { s.inBand = true }

// Kept tells, after a relay that ended in order, whether the side can carry
// another stream.
func (s *Side) Kept() bool { return false }

// Send sends one record between two streams.
func (s *Side) Send([]byte) error { return errNotKept }

// Next has woke called once, in a goroutine of its own, with the next record that
// comes, or with how the connection ended.
func (s *Side) Next(woke func(p []byte, err error)) { go woke(nil, errNotKept) }

var errNotKept = errors.New("the connection was not kept")
