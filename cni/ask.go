package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// What the two halves say to each other is bounded. Annotations, which most of
// an answer is made of, are at most 256 KiB of a pod.
const (
	maxQuestion = 4 << 10
	maxAnswer   = 1 << 20
)

// The paths of the agent's HTTP on its socket.
const (
	capturePath = "/v1/capture" // POST Pod -> Answer
	readyPath   = "/ready"      // GET
)

// Ask asks the agent behind a socket what to capture for a pod.
func Ask(ctx context.Context, socket string, p Pod) (Answer, error) {
	question, err := json.Marshal(p)
	if err != nil {
		return Answer{}, err
	}
	body, err := call(ctx, socket, http.MethodPost, capturePath, question)
	if err != nil {
		return Answer{}, err
	}
	return parseAnswer(body)
}

// Ready reports, as an error, why the agent behind a socket is not ready: it
// does not answer, does not know its node's pods yet, or could not install the
// plugin.
func Ready(ctx context.Context, socket string) error {
	_, err := call(ctx, socket, http.MethodGet, readyPath, nil)
	return err
}

func call(ctx context.Context, socket, method, path string, body []byte) ([]byte, error) {
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("the agent does not answer: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the agent's answer: %w", err)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("the agent's answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the agent says: %s", strings.TrimSpace(string(b)))
	}
	return b, nil
}

func parseAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return Answer{}, fmt.Errorf("the agent's answer: %w", err)
	}
	// An answer that says nothing is not a no.
	if a.Capture == nil && a.Why == "" {
		return Answer{}, fmt.Errorf("the agent's answer says neither what to capture nor why nothing")
	}
	return a, nil
}
