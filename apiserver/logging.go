package apiserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// The Kubernetes libraries log through one logger of the process, which the
// first server takes over; their detail levels stay off.
var routeKlog sync.Once

// stopping is set while a server of this process ends: the libraries then call
// every request that is cut off an error.
var stopping atomic.Bool

func routeLogs(log *slog.Logger) {
	stopping.Store(false)
	routeKlog.Do(func() { klog.SetSlogLogger(slog.New(noHangUps{log.Handler()}).With("from", "kubernetes")) })
}

// noHangUps drops what the libraries log as an error when a client hangs up:
// routine peer death is not an error.
type noHangUps struct{ slog.Handler }

func (h noHangUps) Handle(ctx context.Context, r slog.Record) error {
	routine := stopping.Load()
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		routine = routine || ok && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe))
		return !routine
	})
	if routine {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h noHangUps) WithAttrs(as []slog.Attr) slog.Handler { return noHangUps{h.Handler.WithAttrs(as)} }
func (h noHangUps) WithGroup(name string) slog.Handler    { return noHangUps{h.Handler.WithGroup(name)} }

// etcdLogger hands etcd's errors to log. Its warnings (a slow disk, mostly) and
// the rest are details, and so is everything while it stops: it calls its own
// end an error.
func etcdLogger(log *slog.Logger) *zap.Logger {
	return zap.New(slogCore{log.With("from", "etcd")})
}

// tooEarly is what etcd says in the first seconds of a new store, and then
// tries again: it looks for a term before the first entry is applied.
const tooEarly = "failed to update storage version"

// slogCore is the way from zap to slog.
type slogCore struct{ log *slog.Logger }

func (c slogCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), c.level(l))
}

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.log.With(attrs(fields)...)}
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := c.level(e.Level)
	if e.Message == tooEarly {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, e.Message, attrs(fields)...)
	return nil
}

func (slogCore) Sync() error { return nil }

// level shifts etcd down: its info is our debug.
func (c slogCore) level(l zapcore.Level) slog.Level {
	switch {
	case stopping.Load():
		return slog.LevelDebug
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func attrs(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	out := make([]any, 0, 2*len(m.Fields))
	for k, v := range m.Fields {
		out = append(out, k, v)
	}
	return out
}
