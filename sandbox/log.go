package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of a container's log on disk: the newest two segments are kept.
const (
	segmentSize = 5 << 20
	maxChunk    = 16 << 10
)

// containerLog is the output of one run of one container, on disk in the format
// of the Kubernetes CRI, and readable while it grows and afterwards. Every
// record is a line: time, stream, F or P, data. F ends a line of output, P does
// not, so that the bytes can be given back exactly.
type containerLog struct {
	dir string // of the container; nothing else is in it
	run int    // how often the container had been restarted
	now func() time.Time

	mu      sync.Mutex
	f       *os.File // of the newest segment; nil when the run is over
	first   int      // oldest segment that is kept
	last    int      // newest
	size    int64    // of the newest, in whole records
	given   position // up to where somebody read the whole log, who may attach next
	changed chan struct{}
}

// createLog begins the log of a run.
func createLog(dir string, run int) (*containerLog, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox: log: %w", err)
	}
	l := &containerLog{dir: dir, run: run, now: time.Now, changed: make(chan struct{})}
	f, err := os.OpenFile(l.file(0), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sandbox: log: %w", err)
	}
	l.f = f
	return l, nil
}

// openLog finds the log of a run that is over.
func openLog(dir string, run int) (*containerLog, error) {
	l := &containerLog{dir: dir, run: run, now: time.Now}
	segments, err := l.segments()
	if err != nil {
		return nil, err
	}
	l.first, l.last = segments[0], segments[len(segments)-1]
	info, err := os.Stat(l.file(l.last))
	if err != nil {
		return nil, fmt.Errorf("sandbox: log: %w", err)
	}
	l.size = info.Size()
	return l, nil
}

func (l *containerLog) file(segment int) string {
	return filepath.Join(l.dir, fmt.Sprintf("%d.%d.log", l.run, segment))
}

func (l *containerLog) segments() ([]int, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox: log: %w", err)
	}
	var out []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), strconv.Itoa(l.run)+".")
		if n, err := strconv.Atoi(strings.TrimSuffix(rest, ".log")); ok && err == nil {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("sandbox: log of run %d: %w", l.run, fs.ErrNotExist)
	}
	slices.Sort(out)
	return out, nil
}

// lastRun is the newest run that a container's directory has a log of, or -1.
func lastRun(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	newest := -1
	for _, e := range entries {
		run, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.Atoi(run); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// forgetRuns deletes the logs of runs before the given one.
func forgetRuns(dir string, before int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		run, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.Atoi(run); err == nil && n < before {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// copyFrom writes what comes out of r until it ends. An error is the log's; r's
// end, whatever it is, is the end.
func (l *containerLog) copyFrom(r io.Reader, s stream) error {
	buf := make([]byte, maxChunk)
	var failed error
	for {
		n, err := r.Read(buf)
		if n > 0 && failed == nil {
			failed = l.append(s, buf[:n])
		}
		// When the disk is full the program must not hang: go on reading.
		if err != nil {
			return failed
		}
	}
}

// append adds output as records, in one write.
func (l *containerLog) append(s stream, data []byte) error {
	head := l.now().UTC().Format(time.RFC3339Nano) + " " + string(s)
	var b bytes.Buffer
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		tag := " P "
		if whole {
			tag = " F "
		}
		b.WriteString(head + tag)
		b.Write(line)
		b.WriteByte('\n')
		data = rest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return errors.New("sandbox: log: the run is over")
	}
	if l.size+int64(b.Len()) > segmentSize && l.size > 0 {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.f.WriteAt(b.Bytes(), l.size); err != nil {
		return fmt.Errorf("sandbox: log: %w", err)
	}
	l.size += int64(b.Len())
	l.tell()
	return nil
}

func (l *containerLog) rotate() error {
	f, err := os.OpenFile(l.file(l.last+1), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("sandbox: log: %w", err)
	}
	l.f.Close()
	l.f, l.size = f, 0
	l.last++
	for ; l.first < l.last-1; l.first++ {
		_ = os.Remove(l.file(l.first))
	}
	return nil
}

// tell wakes the readers that wait for more.
func (l *containerLog) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// close ends the run: readers come to an end after what is there.
func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	l.f.Close()
	l.f = nil
	l.tell()
}
