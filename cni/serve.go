package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// listen opens the socket for root alone, in the place of an earlier agent's:
// whoever dials reaches the old one or the new one.
func listen(path string) (net.Listener, error) {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cni: socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cni: socket: %w", err)
	}
	// The name is the successor's when this agent ends.
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		l.Close()
		os.Remove(tmp)
		return nil, fmt.Errorf("cni: socket: %w", err)
	}
	return l, nil
}

// server answers the plugin.
type server struct {
	find  func(context.Context, Pod) (Answer, error)
	ready func() error
	log   *slog.Logger
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+capturePath, s.capture)
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

func (s *server) capture(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		http.Error(w, "the question: "+err.Error(), http.StatusBadRequest)
		return
	}
	pod, err := parseQuestion(b)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.find(r.Context(), pod)
	if err != nil {
		s.log.Warn("no answer for a pod: it will be asked again", slog.String("pod", pod.String()), slog.Any("error", err))
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.log.Info("pod asked about", slog.String("pod", pod.String()), slog.Bool("capture", answer.Capture != nil), slog.String("why", answer.Why))
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.log.Warn("answer not sent", slog.String("pod", pod.String()), slog.Any("error", err))
	}
}

func parseQuestion(b []byte) (Pod, error) {
	var p Pod
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Pod{}, fmt.Errorf("the question: %w", err)
	}
	return p, p.validate()
}

// serve answers until ctx ends, and then finishes what was asked.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: askTime, ReadTimeout: askTime, WriteTimeout: 2 * askTime,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		stopped <- h.Shutdown(late)
	})
	err := h.Serve(l)
	if stop() { // it ended by itself
		return fmt.Errorf("cni: socket: %w", err)
	}
	return <-stopped
}
