package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// queue holds requests until they are sent. Whoever reads the stream must never
// wait for it to take a request: the control plane may be waiting in turn for
// us to read, with more names to subscribe to than fit into the connection's
// buffers. What is in it is bounded by what was received: an answer for each
// response, each name once.
type queue struct {
	mu    sync.Mutex
	items []*discovery.DeltaDiscoveryRequest
	more  chan struct{} // holds one token when there are items
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) put(r *discovery.DeltaDiscoveryRequest) {
	q.mu.Lock()
	q.items = append(q.items, r)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) takeAll() []*discovery.DeltaDiscoveryRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

// run sends until ctx ends or the stream does. The end of the stream is not its
// error to tell: the reader gets the reason.
func (q *queue) run(ctx context.Context, send func(*discovery.DeltaDiscoveryRequest) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.more:
		}
		for _, r := range q.takeAll() {
			if err := send(r); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("send a request: %w", err)
			}
		}
	}
}
