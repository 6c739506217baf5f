package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The parts that are processes of their own. Each is asked by net/rpc on its
// standard input and output, and ends when that does.
const (
	planePart = "control-plane"
	fleetPart = "proxies"
)

func isPart(name string) bool { return name == planePart || name == fleetPart }

// serve is the life of a part.
func serve(name string) {
	signal.Ignore(os.Interrupt) // the one that started us ends us
	var receiver any = &Plane{}
	if name == fleetPart {
		receiver = &Fleet{}
	}
	s := rpc.NewServer()
	if err := s.RegisterName(name, receiver); err != nil {
		panic(err) // its methods do not have the form that they need
	}
	s.ServeConn(stdio{os.Stdin, os.Stdout})
}

type stdio struct {
	io.Reader
	io.WriteCloser
}

// part is a process as its parent has it.
type part struct {
	name string
	cmd  *exec.Cmd
	rpc  *rpc.Client
}

func startPart(name string) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	return &part{name, cmd, rpc.NewClient(stdio{out, in})}, nil
}

// ask waits for the answer, or for the end of ctx, which ends the part too.
func (p *part) ask(ctx context.Context, method string, args, reply any) error {
	call := p.rpc.Go(p.name+"."+method, args, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("%s: %s: %w", p.name, method, call.Error)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %s: %w", p.name, method, ctx.Err())
	}
}

// stop the process and wait for it.
func (p *part) stop() {
	p.rpc.Close() // its standard input
	timer := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait()
}

// Usage of a part's process.
type Usage struct {
	CPU            time.Duration
	Sent, Received int64 // bytes on the connections to proxies, TLS included
}

// cpu that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Memory of a part's process, after its garbage was collected.
type Memory struct {
	Live uint64 `json:"live"` // heap and stacks in use
	RSS  uint64 `json:"rss"`
}

func memory() (Memory, error) {
	var m runtime.MemStats
	for last := uint64(math.MaxUint64); ; last = m.HeapAlloc { // what is in pools goes later
		debug.FreeOSMemory()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > last-last/50 {
			break
		}
	}
	rss, err := rss()
	return Memory{m.HeapAlloc + m.StackInuse, rss}, err
}

func rss() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kb, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmRSS")
}
