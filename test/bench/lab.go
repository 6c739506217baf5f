package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"hasp/test/bench/load"
)

// lab is where the pairs run: a folder for certificates, configurations and
// logs, and the workload behind all of them.
type lab struct {
	dir    string
	root   string // of the repository
	bin    string // our own programs
	client svid
	server svid
	ports  load.Ports // of the workload
	port   int        // the next to try
	work   *part
	// started are the process groups of programs.
	started sync.Map
	// profiles is a folder for CPU profiles of our sidecars; "" for none.
	profiles string
}

// newLab makes the folder and starts the workload.
func newLab(root string) (*lab, error) {
	dir, err := os.MkdirTemp("", "hasp-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, root: root, bin: filepath.Join(root, "bin", "bench"), port: firstPort}
	if err := l.prepare(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) prepare() (err error) {
	if err := moreFiles(); err != nil {
		return err
	}
	if l.client, l.server, err = writeCertificates(l.dir); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", l.bin+"/", "./test/bench/side", "./test/bench/tunnel")
	build.Dir, build.Env = l.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the sides: %w\n%s", err, out)
	}
	if l.work, err = l.part("backend"); err != nil {
		return err
	}
	return l.work.read(&l.ports)
}

func (l *lab) close() {
	if l.work != nil {
		l.work.end()
	}
	os.RemoveAll(l.dir)
}

// firstPort of the proxies; the kernel gives its own from 32768 on.
const firstPort = 20_000

// listen finds a port of loopback that nobody has.
func (l *lab) listen() (string, error) {
	for ; l.port < 32_000; l.port++ {
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", l.port))
		if err != nil {
			continue
		}
		ln.Close()
		l.port++
		return ln.Addr().String(), nil
	}
	return "", errors.New("no port of loopback is free")
}

// part is this program as a process of its own: the workload, or a client.
type part struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *tailBuffer
}

func (l *lab) part(args ...string) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &part{cmd: exec.Command(self, args...), err: &tailBuffer{}}
	h.cmd.Env = append(os.Environ(), partWord+"=1")
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h.cmd.Stderr = h.err
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	return h, h.cmd.Start()
}

// read takes a line of JSON.
func (h *part) read(v any) error {
	line, err := h.out.ReadBytes('\n')
	if err != nil {
		return h.failed(err)
	}
	return json.Unmarshal(line, v)
}

// failed is what the part said before it ended.
func (h *part) failed(err error) error {
	h.end()
	if said := h.err.String(); said != "" {
		return errors.New(said)
	}
	return err
}

// end lets the part end, and kills it when it does not.
func (h *part) end() {
	h.in.Close()
	t := time.AfterFunc(5*time.Second, func() { _ = h.cmd.Process.Kill() })
	defer t.Stop()
	_ = h.cmd.Wait()
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct{ b []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-4000):]
	return len(p), nil
}

func (t *tailBuffer) String() string { return string(t.b) }

// session is a run of load whose connections are open.
type session struct{ *part }

func (l *lab) session(p load.Plan) (*session, error) {
	plan, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	h, err := l.part("load", string(plan))
	if err != nil {
		return nil, err
	}
	if _, err := h.out.ReadString('\n'); err != nil {
		return nil, h.failed(err)
	}
	return &session{h}, nil
}

// run is the measured part; what it does is bounded by the plan.
func (s *session) run() (load.Result, error) {
	var r load.Result
	if _, err := io.WriteString(s.in, "\n"); err != nil {
		return r, s.failed(err)
	}
	return r, s.read(&r)
}
