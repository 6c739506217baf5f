package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// stream says which of a program's two outputs something came from.
type stream string

const (
	streamOut stream = "stdout"
	streamErr stream = "stderr"
)

// record is a piece of output.
type record struct {
	time   time.Time
	stream stream
	data   []byte // with its newline, if it ends a line
}

// parseRecord reads a line of a log, without its newline.
func parseRecord(line []byte) (record, error) {
	f := bytes.SplitN(line, []byte(" "), 4)
	if len(f) != 4 {
		return record{}, errors.New("a record has fewer than four fields")
	}
	at, err := time.Parse(time.RFC3339Nano, string(f[0]))
	if err != nil {
		return record{}, fmt.Errorf("time of a record: %w", err)
	}
	r := record{time: at, stream: stream(f[1]), data: f[3]}
	if r.stream != streamOut && r.stream != streamErr {
		return record{}, fmt.Errorf("a record has unknown stream %q", f[1])
	}
	switch string(f[2]) {
	case "F":
		r.data = append(r.data, '\n')
	case "P":
	default:
		return record{}, fmt.Errorf("a record has unknown tag %q", f[2])
	}
	return r, nil
}

// position is a place in a log.
type position struct {
	segment int
	off     int64
}

// give notes that somebody read everything up to where r is.
func (r *logReader) give() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if at := (position{r.segment, r.off}); at.segment > r.log.given.segment || at.segment == r.log.given.segment && at.off > r.log.given.off {
		r.log.given = at
	}
}

// untold is a reader that begins where the last give left off, once; without
// one it begins at the beginning.
func (l *containerLog) untold() *logReader {
	l.mu.Lock()
	from := l.given
	l.given = position{}
	l.mu.Unlock()
	r := l.reader(true)
	if r.open(from.segment) == nil {
		r.off = from.off
	} // else that segment is gone: from the oldest that is kept
	return r
}

// logReader reads the records of a log from its beginning.
type logReader struct {
	log     *containerLog
	follow  bool // wait for more while the run goes on
	segment int
	f       *os.File
	off     int64
	lines   *bufio.Reader
}

func (l *containerLog) reader(follow bool) *logReader {
	return &logReader{log: l, follow: follow, segment: -1}
}

func (r *logReader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// next record; io.EOF after the last. Its data is good until the next call.
func (r *logReader) next(ctx context.Context) (record, error) {
	for {
		if r.lines != nil {
			line, err := r.lines.ReadBytes('\n')
			if err == nil {
				r.off += int64(len(line))
				return parseRecord(line[:len(line)-1])
			}
			// Half a record is there only if the machine went down over it.
			r.off += int64(len(line))
			r.lines = nil
		}
		if err := r.more(ctx); err != nil {
			return record{}, err
		}
	}
}

// more finds what can be read next: more of this segment, or the next one.
func (r *logReader) more(ctx context.Context) error {
	for {
		r.log.mu.Lock()
		first, last, size := r.log.first, r.log.last, r.log.size
		over, changed := r.log.f == nil, r.log.changed
		r.log.mu.Unlock()

		if r.segment < 0 {
			if err := r.open(first); err != nil && (over || !errors.Is(err, fs.ErrNotExist)) {
				return err
			} else if err != nil {
				continue // rotated away since we looked
			}
		}
		limit := size
		if r.segment < last {
			info, err := r.f.Stat()
			if err != nil {
				return fmt.Errorf("sandbox: log: %w", err)
			}
			limit = info.Size() // nobody writes to it any more
		}
		switch {
		case r.off < limit:
			r.lines = bufio.NewReaderSize(io.NewSectionReader(r.f, r.off, limit-r.off), maxChunk)
			return nil
		case r.segment < last:
			first = max(r.segment+1, first)
			r.close()
			r.segment = -1
			if err := r.open(first); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		case over || !r.follow:
			return io.EOF
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (r *logReader) open(segment int) error {
	f, err := os.Open(r.log.file(segment))
	if err != nil {
		return fmt.Errorf("sandbox: log: %w", err)
	}
	r.f, r.segment, r.off = f, segment, 0
	return nil
}
