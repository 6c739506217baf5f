package control_test

import (
	"os"
	"path/filepath"
	"testing"

	"hasp/control"
)

// A ledger that could not be read back does not replace one that can.
func TestLedgerFileOfASize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger.json")
	l := control.LedgerFile(file)
	if err := l.Save([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(make([]byte, 256<<20+1)); err == nil {
		t.Error("it was written")
	}
	if got, err := l.Load(); err != nil || string(got) != "{}" {
		t.Errorf("%q, %v", got, err)
	}
	files, err := filepath.Glob(file + "*")
	if err != nil || len(files) != 1 {
		t.Errorf("there are %v, %v", files, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
