package scraper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
)

// oops is a failed search as the original showed it: an error's name, its
// words, and the code that Node.js gives the cause.
type oops struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
	Status  int    `json:"statusCode,omitempty"`
}

// statusError is an answer of the upstream that was not 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("the search engine answered %d", int(e)) }

// withoutURL drops the URL that net/http puts before every error, since the
// key is in it.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// describe tells what went wrong, with the code that the lab's reader looks
// for: ECONNRESET where the mesh knows no way out.
func describe(err error) oops {
	var status statusError
	if errors.As(err, &status) {
		return oops{Name: "StatusCodeError", Message: err.Error(), Status: int(status)}
	}
	o := oops{Name: "RequestError", Message: "Error: " + err.Error()}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF): // Node's "socket hang up"
		o.Code = "ECONNRESET"
	case errors.Is(err, syscall.ECONNREFUSED):
		o.Code = "ECONNREFUSED"
	case errors.As(err, &dns):
		o.Code = "ENOTFOUND"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		o.Code = "ETIMEDOUT"
	}
	return o
}
