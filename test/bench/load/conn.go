package load

import (
	"fmt"
	"time"
)

// conn is a client's connection, with at most one request on it.
type conn struct {
	slot int32
	fd   int // -1 before it is dialled
	busy bool
	due  time.Time
	head []byte // as long as it is not whole
	body int64  // its length; negative before the head was read
	got  int64
}

// start is the moment of a request.
func (c *conn) start(due time.Time) {
	c.busy, c.due, c.head, c.body, c.got = true, due, c.head[:0], -1, 0
}

// whole is true when all of the answer has come.
func (c *conn) whole() bool { return c.body >= 0 && c.got == c.body }

// take looks at bytes of an answer.
func (c *conn) take(b []byte) error {
	if c.body < 0 && len(b) > 0 {
		c.head = append(c.head, b...)
		head, body, err := parseHead(c.head)
		if err != nil || head == 0 {
			return err
		}
		b, c.body = c.head[head:], body
	}
	if c.got+int64(len(b)) > max(c.body, 0) {
		return fmt.Errorf("more came than the %d bytes of the answer", c.body)
	}
	if err := checkBody(c.got, b); err != nil {
		return err
	}
	c.got += int64(len(b))
	return nil
}

// schedule says which requests are due.
type schedule struct {
	start  time.Time
	length time.Duration // after which none is due; 0 is no limit
	every  time.Duration // 0: as soon as a connection is free
	count  int           // in all; 0 is no limit
	given  int
	closed bool
}

// next is the request that is due at now, if there is one. Each is given out
// once; those that were due while nobody asked are given out late, with the
// time that they were due.
func (s *schedule) next(now time.Time) (due time.Time, ok bool) {
	due = now
	if s.every > 0 {
		due = s.start.Add(time.Duration(s.given) * s.every)
	}
	if s.count > 0 && s.given == s.count || s.length > 0 && due.Sub(s.start) >= s.length {
		s.closed = true
		return due, false
	}
	if due.After(now) {
		return due, false
	}
	s.given++
	return due, true
}

// over is true when no more will be due.
func (s *schedule) over() bool { return s.closed }
