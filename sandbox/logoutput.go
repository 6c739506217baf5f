package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// openOutput opens a log as the options say.
func openOutput(ctx context.Context, l *containerLog, opts *corev1.PodLogOptions) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	out := &logOutput{ctx: ctx, cancel: cancel, reader: l.reader(opts.Follow), opts: *opts, lineStart: true, left: -1}
	out.since = sinceOf(opts, time.Now())
	if opts.LimitBytes != nil {
		out.left = *opts.LimitBytes
	}
	if opts.TailLines != nil {
		skip, err := linesBefore(ctx, l, out.wants, *opts.TailLines)
		if err != nil {
			cancel()
			return nil, err
		}
		out.skip = skip
	}
	return out, nil
}

func sinceOf(opts *corev1.PodLogOptions, now time.Time) time.Time {
	switch {
	case opts.SinceSeconds != nil:
		return now.Add(-time.Duration(*opts.SinceSeconds) * time.Second)
	case opts.SinceTime != nil:
		return opts.SinceTime.Time
	}
	return time.Time{}
}

// logOutput turns records into the bytes that a reader of logs sees.
type logOutput struct {
	ctx       context.Context
	cancel    context.CancelFunc
	reader    *logReader
	opts      corev1.PodLogOptions
	since     time.Time
	skip      int64 // lines still to leave out
	left      int64 // bytes still to give; negative: no limit
	lineStart bool
	pending   []byte
	mu        sync.Mutex // one of Read and Close at a time
}

// wants reports whether a record is asked for at all.
func (o *logOutput) wants(r record) bool {
	if s := o.opts.Stream; s != nil && *s != corev1.LogStreamAll && !strings.EqualFold(*s, string(r.stream)) {
		return false
	}
	return !r.time.Before(o.since)
}

func (o *logOutput) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) == 0 {
		if o.left == 0 {
			return 0, io.EOF
		}
		r, err := o.reader.next(o.ctx)
		if errors.Is(err, io.EOF) && o.whole() {
			o.reader.give()
		}
		if err != nil {
			return 0, err
		}
		o.take(r)
	}
	n := copy(p, o.pending)
	o.pending = o.pending[n:]
	return n, nil
}

// whole reports whether everything there was has been asked for.
func (o *logOutput) whole() bool {
	return !o.opts.Follow && o.opts.TailLines == nil && o.opts.LimitBytes == nil && o.since.IsZero() && o.opts.Stream == nil
}

func (o *logOutput) take(r record) {
	if !o.wants(r) {
		return
	}
	ends := bytes.HasSuffix(r.data, []byte("\n"))
	if o.skip > 0 {
		if ends {
			o.skip--
		}
		return
	}
	var out []byte
	if o.opts.Timestamps && o.lineStart {
		out = append(out, r.time.Format(time.RFC3339Nano)+" "...)
	}
	out = append(out, r.data...)
	o.lineStart = ends
	if o.left > 0 {
		out = out[:min(int64(len(out)), o.left)]
		o.left -= int64(len(out))
	}
	o.pending = out
}

// Close ends a Read that waits.
func (o *logOutput) Close() error {
	o.cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reader.close()
	return nil
}

// linesBefore is how many of a log's lines come before its last n.
func linesBefore(ctx context.Context, l *containerLog, wants func(record) bool, n int64) (int64, error) {
	r := l.reader(false)
	defer r.close()
	var lines int64
	open := false
	for {
		rec, err := r.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if !wants(rec) {
			continue
		}
		if open = !bytes.HasSuffix(rec.data, []byte("\n")); !open {
			lines++
		}
	}
	if open {
		lines++
	}
	return max(0, lines-n), nil
}
