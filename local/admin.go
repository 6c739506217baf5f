package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"hasp/control"
)

// Status is what hasp status shows.
type Status struct {
	State
	Control control.Status `json:"control"`
}

// admin serves the daemon's own commands on a socket that only the owner of the
// state directory can reach: GET /status, POST /stop, and the views of the facts
// (control.Views).
func (d *daemon) admin(ctx context.Context, stop func()) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", d.serveStatus)
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		stop()
	})
	mux.Handle("/", d.control.Views())
	ln, err := listenUnix(filepath.Join(d.o.Dir, adminSock))
	if err != nil {
		return fmt.Errorf("the admin socket: %w", err)
	}
	return serveHTTP(ctx, ln, mux)
}

func (d *daemon) serveStatus(w http.ResponseWriter, r *http.Request) {
	s, err := d.status()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s)
}

// serveHTTP until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	return control.ServeHTTP(ctx, ln, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10})
}

// listenUnix listens on a socket that only its owner can use. A long path is
// reached through a descriptor of its directory, since the kernel takes 107
// bytes at most.
func listenUnix(path string) (net.Listener, error) {
	os.Remove(path)
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.Listen("unix", short)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln, nil
}

func shorten(path string) (string, func(), error) {
	if len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// client asks the admin socket short questions.
func client(dir string) *http.Client {
	c := Admin(dir)
	c.Timeout = 10 * time.Second
	return c
}

// Admin speaks to the admin socket of the mesh in a state directory: whatever
// host is asked, it answers. It has no timeout of its own.
func Admin(dir string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			short, done, err := shorten(filepath.Join(dir, adminSock))
			if err != nil {
				return nil, err
			}
			defer done()
			return (&net.Dialer{}).DialContext(ctx, "unix", short)
		},
	}}
}

// GetStatus asks the running daemon.
func GetStatus(ctx context.Context, dir string) (Status, error) {
	var s Status
	if _, err := Find(dir); err != nil {
		return s, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := client(dir).Do(req)
	if err != nil {
		return s, fmt.Errorf("ask the mesh in %s: %w", dir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("ask the mesh in %s: %s", dir, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("ask the mesh in %s: %w", dir, err)
	}
	return s, nil
}

// Stop asks the daemon to end and waits until it has; one that does not within
// patience is killed.
func Stop(ctx context.Context, dir string, patience time.Duration) error {
	s, err := Find(dir)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/stop", nil)
	if err != nil {
		return err
	}
	if resp, err := client(dir).Do(req); err == nil {
		resp.Body.Close()
		if gone(ctx, dir, patience) {
			return nil
		}
	}
	p, err := os.FindProcess(s.PID)
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end process %d: %w", s.PID, err)
	}
	if !gone(ctx, dir, patience) {
		return fmt.Errorf("process %d does not end", s.PID)
	}
	return nil
}

// gone waits until nobody holds the lock any more.
func gone(ctx context.Context, dir string, patience time.Duration) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if lock, err := lockDir(dir); err == nil {
			lock.Close()
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
}
