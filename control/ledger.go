package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"hasp/truth"
)

// Ledger is where the ledger outlives the control plane. One caller at a time.
type Ledger interface {
	// Load is what was saved last; nil when nothing was.
	Load() ([]byte, error)
	Save([]byte) error
	// Aside moves what was saved out of the way, since it cannot be read, and
	// says where to.
	Aside() (string, error)
}

// openLedger reads what was saved. What cannot be read is no reason not to
// start: it is put aside, and the ledger begins anew.
func openLedger(l Ledger, f *facts, log *slog.Logger) {
	if l == nil {
		return
	}
	data, err := l.Load()
	if err == nil && data == nil {
		return
	}
	if err == nil {
		err = decodeLedger(data, f)
	}
	if err == nil {
		return
	}
	where, moved := l.Aside()
	if moved != nil {
		err = errors.Join(err, moved)
	}
	log.Error("the ledger cannot be read and begins anew", slog.Any("error", err), slog.String("aside", where))
}

func decodeLedger(data []byte, f *facts) error {
	var l truth.Ledger
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	return f.do(func(b *truth.Book) error { return b.Load(&l, time.Now()) })
}

// saver writes the ledger when it changed.
type saver struct {
	ledger Ledger
	log    *slog.Logger
	saved  uint64 // the version that was written last
}

func (s *saver) save(f *facts) {
	if s.ledger == nil {
		return
	}
	f.mu.Lock()
	version := f.book.Version()
	if version == s.saved {
		f.mu.Unlock()
		return
	}
	l := f.book.Save()
	f.mu.Unlock()
	raw, err := json.Marshal(l)
	if err == nil {
		err = s.ledger.Save(raw)
	}
	if err != nil {
		s.log.Error("the ledger is not saved; tried again soon", slog.Any("error", err))
		return
	}
	s.saved = version
}

// maxLedger bounds the file, in bytes: far more than the book of an honest mesh
// holds. A cluster's is on a volume of a size.
const maxLedger = 256 << 20

// LedgerFile is a Ledger in a file that only its owner may read.
type LedgerFile string

// Load implements Ledger.
func (l LedgerFile) Load() ([]byte, error) {
	f, err := os.Open(string(l))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLedger+1))
	if err == nil && len(data) > maxLedger {
		err = fmt.Errorf("%s is longer than %d MiB", l, maxLedger>>20)
	}
	return data, err
}

// Save implements Ledger: whoever reads finds the old one or the new one. What
// could not be read back is not written: the old one is better than none.
func (l LedgerFile) Save(data []byte) error {
	if len(data) > maxLedger {
		return fmt.Errorf("the ledger would have %d MiB, and %s may have %d: some workloads report lines without end", len(data)>>20, l, maxLedger>>20)
	}
	fresh := string(l) + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, string(l))
}

// Aside implements Ledger. One that was put aside before is replaced, so that
// there are never more than two.
func (l LedgerFile) Aside() (string, error) {
	aside := string(l) + ".unreadable"
	return aside, os.Rename(string(l), aside)
}
