package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hasp/sandbox"
)

// The files a daemon inherits, in this order from descriptor 3.
const (
	fdLock = 3 + iota
	fdConfig
	fdReport
	fdAPI
	fdHTTP
	fdHTTPS
	fdDashboard
	fdEnd
)

// usual are the ports taken unless the user says otherwise or they are busy.
var usual = [...]int{fdAPI: 16443, fdHTTP: 8080, fdHTTPS: 8443, fdDashboard: 20001}

// message is what a daemon reports while it starts: a step, an error, or that
// it is ready.
type message struct {
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	Ready bool   `json:"ready,omitempty"`
}

// Mesh is a daemon this process started.
type Mesh struct {
	State State
	cmd   *exec.Cmd
	done  chan struct{}
	err   error
}

// Start starts a daemon and waits until it is ready, telling each step to
// progress. Detached, it outlives this process and its terminal; otherwise it
// dies with the calling thread, which must therefore be the main one, locked.
// self is the program to run with args; it must call Daemon.
func Start(ctx context.Context, o Options, detached bool, self string, args []string, progress func(string)) (*Mesh, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if errors.Is(err, errLocked) {
		s, err := readState(o.Dir)
		if err != nil {
			return nil, err
		}
		return nil, &RunningError{s}
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	old, _ := readState(o.Dir) // a stopped mesh's ports are taken again
	os.Remove(filepath.Join(o.Dir, stateFile))

	l, err := listen(o, old)
	if err != nil {
		return nil, err
	}
	defer l.close()
	m, report, err := launch(o, detached, self, args, lock, l)
	if err != nil {
		return nil, err
	}
	defer report.Close()
	m.State = State{
		PID: m.cmd.Process.Pid, Started: time.Now().UTC().Truncate(time.Second), Dir: o.Dir, Project: o.Project, App: o.App != "",
		Kubeconfig: Kubeconfig(o.Dir), API: "https://" + l.addr(fdAPI), Page: "http://" + l.addr(fdHTTP),
		PageTLS: "https://" + l.addr(fdHTTPS), Dashboard: "http://" + l.addr(fdDashboard),
	}
	if err := writeState(m.State); err != nil {
		m.Kill()
		return nil, err
	}
	if err := await(ctx, report, progress); err != nil {
		m.Kill()
		return nil, fmt.Errorf("%w (its log is %s)", err, filepath.Join(o.Dir, logFile))
	}
	return m, nil
}

// launch starts the daemon's process with everything it inherits.
func launch(o Options, detached bool, self string, args []string, lock *os.File, l *listeners) (*Mesh, *os.File, error) {
	config, err := json.Marshal(o)
	if err != nil {
		return nil, nil, err
	}
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer configR.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		configW.Close()
		return nil, nil, err
	}
	defer reportW.Close()
	log, err := os.OpenFile(filepath.Join(o.Dir, logFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		configW.Close()
		reportR.Close()
		return nil, nil, err
	}
	defer log.Close()

	files := []*os.File{lock, configR, reportW, l.files[fdAPI], l.files[fdHTTP], l.files[fdHTTPS], l.files[fdDashboard]}
	cmd, err := sandbox.Command(self, args, files, sandbox.Enter{Detach: true})
	if err == nil {
		if !detached {
			cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		}
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
	}
	if err != nil {
		configW.Close()
		reportR.Close()
		return nil, nil, fmt.Errorf("start the mesh: %w", err)
	}
	m := &Mesh{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.err = cmd.Wait()
	}()
	// The configuration is far smaller than a pipe's buffer.
	_, err = configW.Write(config)
	configW.Close()
	if err != nil {
		m.Kill()
		reportR.Close()
		return nil, nil, fmt.Errorf("start the mesh: hand over the configuration: %w", err)
	}
	return m, reportR, nil
}

// await reads the daemon's messages until it is ready, fails or dies.
func await(ctx context.Context, report *os.File, progress func(string)) error {
	stop := context.AfterFunc(ctx, func() { report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewScanner(io.LimitReader(report, 1<<20))
	for in.Scan() {
		var msg message
		if err := json.Unmarshal(in.Bytes(), &msg); err != nil {
			return fmt.Errorf("start the mesh: unexpected report: %w", err)
		}
		switch {
		case msg.Error != "":
			return errors.New(msg.Error)
		case msg.Ready:
			return nil
		case progress != nil:
			progress(msg.Step)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start the mesh: %w", context.Cause(ctx))
	}
	return errors.New("the mesh ended while it started")
}

// Done is closed when the daemon has ended.
func (m *Mesh) Done() <-chan struct{} { return m.done }

// Kill ends the daemon at once, and with it everything in its namespaces.
func (m *Mesh) Kill() {
	m.cmd.Process.Kill()
	<-m.done
}

// listeners are made on the host before the daemon leaves its network.
type listeners struct {
	files [fdEnd]*os.File
	ports [fdEnd]int
}

func (l *listeners) addr(fd int) string { return "127.0.0.1:" + strconv.Itoa(l.ports[fd]) }

func (l *listeners) close() {
	for _, f := range l.files {
		if f != nil {
			f.Close()
		}
	}
}

func listen(o Options, old State) (*listeners, error) {
	asked := [fdEnd]int{fdAPI: o.APIPort, fdHTTP: o.HTTPPort, fdHTTPS: o.HTTPSPort, fdDashboard: o.DashboardPort}
	before := [fdEnd]string{fdAPI: old.API, fdHTTP: old.Page, fdHTTPS: old.PageTLS, fdDashboard: old.Dashboard}
	l := &listeners{}
	for fd := fdAPI; fd < fdEnd; fd++ {
		try := []int{portOf(before[fd]), usual[fd], 0}
		if asked[fd] != 0 {
			try = []int{asked[fd]}
		}
		if err := l.take(fd, try); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// take listens on the first port of the list that is free. A 0 that is not the
// last is passed over.
func (l *listeners) take(fd int, ports []int) error {
	var err error
	for i, p := range ports {
		if p == 0 && i < len(ports)-1 {
			continue
		}
		var ln net.Listener
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			continue
		}
		defer ln.Close()
		l.ports[fd] = ln.Addr().(*net.TCPAddr).Port
		l.files[fd], err = ln.(*net.TCPListener).File()
		return err
	}
	return fmt.Errorf("listen on the loopback interface: %w", err)
}

func portOf(url string) int {
	_, port, err := net.SplitHostPort(url[strings.LastIndex(url, "/")+1:])
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}
