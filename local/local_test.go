package local

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindGoesByTheLock(t *testing.T) {
	dir := t.TempDir()
	if _, err := Find(filepath.Join(dir, "none")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no directory: %v, want ErrNotRunning", err)
	}
	// What a killed daemon left is there, its lock is not.
	want := State{PID: 42, Dir: dir, Project: "shop"}
	if err := writeState(want); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("state without a lock: %v, want ErrNotRunning", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Find(dir)
	if err != nil || got != want {
		t.Errorf("locked: %+v, %v; want %+v", got, err, want)
	}
	if _, err := lockDir(dir); !errors.Is(err, errLocked) {
		t.Errorf("second lock: %v, want errLocked", err)
	}
	lock.Close()
	if _, err := Find(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("unlocked: %v, want ErrNotRunning", err)
	}
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestStartFindsTheRunningMesh(t *testing.T) {
	dir := t.TempDir()
	if err := writeState(State{PID: 42, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	_, err = Start(t.Context(), Options{Dir: dir}, true, "/bin/false", nil, nil)
	var running *RunningError
	if !errors.As(err, &running) || running.State.PID != 42 {
		t.Errorf("Start in a locked directory: %v, want the running mesh's state", err)
	}
}

func TestPortsAreTakenAgain(t *testing.T) {
	first, err := listen(Options{APIPort: freePort(t), HTTPPort: freePort(t), HTTPSPort: freePort(t), DashboardPort: freePort(t)}, State{})
	if err != nil {
		t.Fatal(err)
	}
	old := State{API: "https://" + first.addr(fdAPI), Page: "http://" + first.addr(fdHTTP), PageTLS: "https://" + first.addr(fdHTTPS), Dashboard: "http://" + first.addr(fdDashboard)}
	first.close()
	again, err := listen(Options{}, old)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if again.ports != first.ports {
		t.Errorf("ports %v, want those of the mesh before: %v", again.ports, first.ports)
	}
	// A port the user asked for is not replaced by another.
	if _, err := listen(Options{APIPort: again.ports[fdAPI]}, State{}); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken port that was asked for: %v, want address already in use", err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestAdminSocketWithALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := listenUnix(filepath.Join(dir, adminSock))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("here")) })}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Close(); <-done }()
	resp, err := client(dir).Get("http://admin/status")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	info, err := os.Stat(filepath.Join(dir, adminSock))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct{ state, home, want string }{
		{"/s", "/h", "/s/hasp"},
		{"", "/h", "/h/.local/state/hasp"},
	} {
		if got := DefaultDir(c.state, c.home); got != c.want {
			t.Errorf("DefaultDir(%q, %q) = %s, want %s", c.state, c.home, got, c.want)
		}
	}
}
