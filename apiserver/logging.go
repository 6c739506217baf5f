package apiserver

import (
	"context"
	"log/slog"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// The Kubernetes libraries log through one logger of the process. The first
// server's takes them; their detail levels stay off.
var routeKlog sync.Once

func routeLogs(log *slog.Logger) {
	routeKlog.Do(func() { klog.SetSlogLogger(log.With("from", "kubernetes")) })
}

// etcdLogger hands etcd's errors to log. Its warnings (a slow disk, mostly) and
// the rest are details.
func etcdLogger(log *slog.Logger) *zap.Logger {
	return zap.New(slogCore{log.With("from", "etcd")})
}

// slogCore is the way from zap to slog.
type slogCore struct{ log *slog.Logger }

func (c slogCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(l))
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
	c.log.Log(context.Background(), slogLevel(e.Level), e.Message, attrs(fields)...)
	return nil
}

func (slogCore) Sync() error { return nil }

// slogLevel shifts etcd down: its info is our debug.
func slogLevel(l zapcore.Level) slog.Level {
	switch {
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
