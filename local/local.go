// Package local runs the whole mesh on one machine: API server, control plane,
// CA and sandbox in one background process (the daemon) that lives in
// namespaces of its own and keeps its state in one directory. [Start] starts
// it, [Find] finds a running one, [Daemon] is what runs inside.
package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Options of a mesh on this machine.
type Options struct {
	// Dir is the state directory. Everything the mesh keeps is in it.
	Dir string `json:"dir"`
	// Project is the namespace the application runs in and the kubeconfig's
	// context names.
	Project string `json:"project"`
	// App is the directory with the demo application's manifests; empty starts
	// the mesh without it.
	App string `json:"app,omitempty"`
	// Bin is the directory with hasp-proxy and the demo's programs.
	Bin string `json:"bin"`
	// Path is where programs of images without a directory are looked for.
	Path string `json:"path,omitempty"`
	// Images is a YAML file that adds image names to the table, or empty.
	Images string `json:"images,omitempty"`
	// Ports on the loopback interface; 0 takes the usual one, or a free one
	// when that is taken.
	APIPort       int `json:"apiPort,omitempty"`
	HTTPPort      int `json:"httpPort,omitempty"`
	HTTPSPort     int `json:"httpsPort,omitempty"`
	DashboardPort int `json:"dashboardPort,omitempty"`
	// CertLifetime of workloads; 0 is 24 h, at least 30 s.
	CertLifetime time.Duration `json:"certLifetime,omitempty"`
	// CACerts is a directory in the layout of Istio's cacerts secret; empty
	// means that the mesh makes its own root.
	CACerts string `json:"caCerts,omitempty"`
	// EtcdServers are the URLs of an etcd to use instead of the embedded one.
	EtcdServers []string `json:"etcdServers,omitempty"`
	EtcdCA      string   `json:"etcdCA,omitempty"`
	EtcdCert    string   `json:"etcdCert,omitempty"`
	EtcdKey     string   `json:"etcdKey,omitempty"`
	// History is how long every revision of an object stays readable; 0 keeps
	// the API server's five minutes.
	History time.Duration `json:"history,omitempty"`
	// LedgerDays is how long it is remembered who talked to whom; 0 is 30.
	LedgerDays int `json:"ledgerDays,omitempty"`
	// OnDemand is control.Config's.
	OnDemand int `json:"onDemand,omitempty"`
}

// State is what a running daemon left in the directory for others to find.
type State struct {
	PID        int       `json:"pid"` // on the host
	Started    time.Time `json:"started"`
	Dir        string    `json:"dir"`
	Project    string    `json:"project"`
	App        bool      `json:"app"`
	Kubeconfig string    `json:"kubeconfig"`
	API        string    `json:"api"`       // https://127.0.0.1:16443
	Page       string    `json:"page"`      // http://127.0.0.1:8080, the gateway's port 80
	PageTLS    string    `json:"pageTLS"`   // https, the gateway's port 443
	Dashboard  string    `json:"dashboard"` // http://127.0.0.1:20001
}

// DefaultDir is hasp under XDG_STATE_HOME, given as stateHome (may be empty),
// else under home/.local/state.
func DefaultDir(stateHome, home string) string {
	if stateHome != "" {
		return filepath.Join(stateHome, "hasp")
	}
	return filepath.Join(home, ".local", "state", "hasp")
}

// Files in the state directory.
const (
	lockFile  = "lock"
	stateFile = "state.json"
	logFile   = "daemon.log"
	adminSock = "admin.sock"
	factsFile = "ledger.json"
)

// ErrNotRunning is what Find returns when no daemon holds the directory.
var ErrNotRunning = errors.New("no mesh is running; start one with hasp up")

// RunningError is what Start returns when a daemon already holds the directory.
type RunningError struct{ State State }

func (e *RunningError) Error() string {
	return fmt.Sprintf("a mesh already runs from %s (process %d)", e.State.Dir, e.State.PID)
}

// Find is the running daemon's state, or ErrNotRunning. What a killed daemon
// left is not mistaken for a running one: the lock tells.
func Find(dir string) (State, error) {
	lock, err := lockDir(dir)
	switch {
	case err == nil:
		lock.Close()
		return State{}, ErrNotRunning
	case errors.Is(err, fs.ErrNotExist):
		return State{}, ErrNotRunning
	case !errors.Is(err, errLocked):
		return State{}, err
	}
	return readState(dir)
}

func readState(dir string) (State, error) {
	var s State
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, fmt.Errorf("the mesh in %s is starting or stopping: %w", dir, err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

// writeState replaces the state file in one step.
func writeState(s State) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(s.Dir, stateFile)
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// LogPath is the daemon's log.
func LogPath(dir string) string { return filepath.Join(dir, logFile) }
