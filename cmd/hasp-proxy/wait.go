package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const waitUsage = `hasp-proxy wait ends when the sidecar of the pod it runs in is ready, or with
status 1 when it is not in time. It is the postStart hook of a sidecar that is no
native one: the kubelet starts the other containers afterwards.

Flags:
`

// waitCommand asks the sidecar's health port again and again.
func waitCommand(ctx context.Context, args []string, stderr io.Writer) error {
	f := newFlags("hasp-proxy wait", waitUsage, stderr)
	limit := f.Duration("timeout", time.Minute, "how long to wait")
	if err := f.parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	return waitReady(ctx, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(healthPort))+"/healthz/ready")
}

// waitEvery is the time between two questions.
const waitEvery = 200 * time.Millisecond

// waitReady asks until the answer is 200 or ctx ends.
func waitReady(ctx context.Context, url string) error {
	again := time.NewTicker(waitEvery)
	defer again.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	last := errors.New("no answer")
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		answer, err := client.Do(r)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait: the sidecar is not ready: %w", last)
		case <-again.C:
		}
	}
}
