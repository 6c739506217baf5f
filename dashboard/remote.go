package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"hasp/truth"
)

const (
	answerTime = time.Minute      // for one answer; what-if may take longest
	maxAnswer  = int64(256) << 20 // bytes
	againAfter = 2 * time.Second  // the events were cut off
	// versionHeader of every view, also of a refusal.
	versionHeader = "X-Hasp-Version"
)

// Remote is a Backend over the views that a control plane serves on its admin
// port or socket; the commands ask by it too. Run it while Changed is used.
type Remote struct {
	Client *http.Client // without a timeout, since it follows events
	Base   string       // http://HOST
	Name   string       // of the mesh, for errors: "the mesh in DIR"
	// Namespace of a candidate's objects that do not say theirs.
	Namespace string
	// StatusOf is the answer of Status; nil asks /status.
	StatusOf func(context.Context) (any, error)

	mu      sync.Mutex
	changed chan struct{}
}

// Run follows the events until ctx ends. Those of a control plane that went away
// are looked for again.
func (r *Remote) Run(ctx context.Context) {
	for ctx.Err() == nil {
		r.follow(ctx)
		r.wake()
		again := time.NewTimer(againAfter)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

func (r *Remote) follow(ctx context.Context) {
	events, err := r.Events(ctx)
	if err != nil {
		return // each page says so itself
	}
	for range events {
		r.wake()
	}
}

// Events tells that something changed, some times a second at most; the first
// comes at once. The channel is closed when the control plane ends the stream or
// ctx ends; what nobody took is one with the next.
func (r *Remote) Events(ctx context.Context) (<-chan struct{}, error) {
	resp, err := r.ask(ctx, http.MethodGet, "/events", nil, nil)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		// A line is "event: facts", "data: VERSION", a comment or empty.
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if !strings.HasPrefix(lines.Text(), "data:") {
				continue
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, nil
}

func (r *Remote) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed != nil {
		close(r.changed)
	}
	r.changed = make(chan struct{})
}

// Changed as a Backend's.
func (r *Remote) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Status as a Backend's.
func (r *Remote) Status(ctx context.Context) (any, error) {
	if r.StatusOf != nil {
		return r.StatusOf(ctx)
	}
	return get[json.RawMessage](ctx, r, "/status", nil)
}

// Facts as a Backend's.
func (r *Remote) Facts(ctx context.Context) (*truth.Facts, error) {
	return get[*truth.Facts](ctx, r, "/facts", nil)
}

// Links as a Backend's.
func (r *Remote) Links(ctx context.Context, workload string) ([]truth.Link, error) {
	q := url.Values{}
	if workload != "" {
		q.Set("workload", workload)
	}
	return get[[]truth.Link](ctx, r, "/connections", q)
}

// Plaintext as a Backend's.
func (r *Remote) Plaintext(ctx context.Context) (truth.PlainLedger, error) {
	return get[truth.PlainLedger](ctx, r, "/plaintext", nil)
}

// Graph as a Backend's.
func (r *Remote) Graph(ctx context.Context, window time.Duration) (truth.Graph, error) {
	return get[truth.Graph](ctx, r, "/graph", url.Values{"window": {window.String()}})
}

// Why as a Backend's.
func (r *Remote) Why(ctx context.Context, id string) (truth.Postmortem, error) {
	return get[truth.Postmortem](ctx, r, "/why", url.Values{"id": {id}})
}

// Timeline as a Backend's.
func (r *Remote) Timeline(ctx context.Context) ([]truth.Change, error) {
	return get[[]truth.Change](ctx, r, "/timeline", nil)
}

// WhatIf as a Backend's.
func (r *Remote) WhatIf(ctx context.Context, yaml []byte) (truth.Answer, error) {
	return r.WhatIfOf(ctx, yaml, r.Namespace, false)
}

// WhatIfOf a candidate that is applied or, with remove, deleted. Objects that do
// not say their namespace are in the given one.
func (r *Remote) WhatIfOf(ctx context.Context, yaml []byte, namespace string, remove bool) (truth.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	q := url.Values{"namespace": {namespace}}
	if remove {
		q.Set("delete", "true")
	}
	return Post[truth.Answer](ctx, r, "/what-if", q, bytes.NewReader(yaml))
}

func get[T any](ctx context.Context, r *Remote, path string, q url.Values) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return call[T](ctx, r, http.MethodGet, path, q, nil)
}

// Post a question with a body, nil for none, to one of the views and read the
// answer, as long as ctx lasts.
func Post[T any](ctx context.Context, r *Remote, path string, q url.Values, body io.Reader) (T, error) {
	return call[T](ctx, r, http.MethodPost, path, q, body)
}

func call[T any](ctx context.Context, r *Remote, method, path string, q url.Values, body io.Reader) (T, error) {
	var out T
	resp, err := r.ask(ctx, method, path, q, body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read what %s answers to %s: %w", r.Name, path, err)
	}
	return out, nil
}

// ask for a view. The body is the caller's to close.
func (r *Remote) ask(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.Base+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/yaml")
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its address means nothing to who reads this
		}
		return nil, fmt.Errorf("ask %s: %w", r.Name, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	said := strings.TrimSpace(string(text))
	switch {
	case resp.StatusCode == http.StatusNotFound && resp.Header.Get(versionHeader) == "":
		return nil, fmt.Errorf("%s is of a version that has no %s: hasp down and hasp up, on a cluster hasp install, bring this one's", r.Name, path)
	case resp.StatusCode == http.StatusNotFound:
		return nil, unknown{said}
	case (resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusRequestEntityTooLarge) && said != "":
		return nil, &Invalid{said}
	}
	return nil, fmt.Errorf("ask %s: %s: %s", r.Name, resp.Status, said)
}

// unknown is ErrUnknown in the control plane's own words.
type unknown struct{ text string }

func (e unknown) Error() string { return e.text }
func (unknown) Unwrap() error   { return ErrUnknown }
