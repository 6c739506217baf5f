package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"sharedboards/internal/trace"
)

// maxAnswer bounds what a service may answer, in bytes.
const maxAnswer = 48 << 20

// backend is one of the services behind the page.
type backend struct {
	name   string
	base   *url.URL
	client *http.Client
}

func newBackend(name, base string, timeout time.Duration) (*backend, error) {
	u, err := parseBase(name, base)
	if err != nil {
		return nil, err
	}
	return &backend{name: name, base: u, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 32,
			// Shorter than the services' own, so that we never write into a
			// connection that the other side is just closing.
			IdleConnTimeout: 30 * time.Second,
		},
		// The services do not redirect; what does is not one of them.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// fault is a call that failed. Status is the service's answer, or 0 if there
// was none.
type fault struct {
	service string
	status  int
	cause   error
}

func (f *fault) Error() string {
	return fmt.Sprintf("ui: call %s: %s", f.service, f.why())
}

func (f *fault) Unwrap() error { return f.cause }

// why says in a few plain words what happened, for a page: no addresses, no
// stack of prefixes.
func (f *fault) why() string {
	var timeout net.Error
	var dns *net.DNSError
	switch err := f.cause; {
	case f.status != 0:
		return fmt.Sprintf("it answered %d %s", f.status, http.StatusText(f.status))
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was reset"
	case errors.As(err, &dns):
		return "its name is not known"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it did not answer in time"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to it"
	case errors.Is(err, errAnswer):
		return "its answer makes no sense"
	}
	return "the connection failed"
}

// errAnswer marks an answer that is not what it should be.
var errAnswer = errors.New("unexpected answer")

// call is one request to a service because of a request to us.
type call struct {
	method string
	path   []string // segments, escaped when they are joined
	body   any      // sent as JSON unless nil
	into   any      // filled from the JSON answer unless nil
}

// do makes a call in the name of the request r and returns the answer's body
// where it is not JSON. All its errors are *fault.
func (b *backend) do(ctx context.Context, r *http.Request, who user, c call) (string, error) {
	res, err := b.send(ctx, r, who, c)
	if err != nil {
		return "", &fault{service: b.name, cause: err}
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return "", &fault{service: b.name, status: res.StatusCode, cause: errAnswer}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return "", &fault{service: b.name, cause: err}
	case len(body) > maxAnswer:
		return "", &fault{service: b.name, cause: fmt.Errorf("%w: more than %d bytes", errAnswer, maxAnswer)}
	case c.into == nil:
		return string(body), nil
	}
	if err := json.Unmarshal(body, c.into); err != nil {
		return "", &fault{service: b.name, cause: fmt.Errorf("%w: %w", errAnswer, err)}
	}
	return "", nil
}

func (b *backend) send(ctx context.Context, r *http.Request, who user, c call) (*http.Response, error) {
	var body io.Reader
	if c.body != nil {
		data, err := json.Marshal(c.body)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(data)
	}
	escaped := make([]string, len(c.path))
	for i, s := range c.path {
		escaped[i] = url.PathEscape(s)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, b.base.JoinPath(escaped...).String(), body)
	if err != nil {
		return nil, err
	}
	trace.Forward(req.Header, r.Header)
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if who.Token != "" {
		req.Header.Set("Authorization", "Bearer "+who.Token)
	}
	return b.client.Do(req)
}
