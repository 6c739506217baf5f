package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is one file or directory of an image.
type entry struct {
	mode     int64
	uid, gid int
	dir      bool
	from     string // file of this machine that has the content
	text     []byte // the content itself, when from is empty
}

// tree is an image's files by path, without the leading slash.
type tree map[string]entry

func (t tree) text(at, text string) { t.add(at, entry{mode: 0o644, text: []byte(text)}) }

// copy adds a file of this machine; a symbolic link is followed.
func (t tree) copy(at, from string, mode int64) { t.add(at, entry{mode: mode, from: from}) }

// add puts an entry where it belongs, below directories of root.
func (t tree) add(at string, e entry) {
	at = strings.TrimPrefix(path.Clean(at), "/")
	t[at] = e
	for d := path.Dir(at); d != "."; d = path.Dir(d) {
		if _, there := t[d]; !there {
			t[d] = entry{mode: 0o755, dir: true}
		}
	}
}

// tar is the tree as a layer: sorted, and without a time, so that equal files
// are equal bytes.
func (t tree) tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, at := range slices.Sorted(maps.Keys(t)) {
		if err := t[at].write(w, at); err != nil {
			return nil, fmt.Errorf("/%s: %w", at, err)
		}
	}
	return b.Bytes(), w.Close()
}

func (e entry) write(w *tar.Writer, at string) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: at, Mode: e.mode, Uid: e.uid, Gid: e.gid,
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	if e.dir {
		h.Typeflag, h.Name = tar.TypeDir, at+"/"
		return w.WriteHeader(h)
	}
	h.Size = int64(len(e.text))
	if e.from != "" {
		info, err := os.Stat(e.from)
		if err != nil {
			return err
		}
		h.Size = info.Size()
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	return e.read(w)
}

// read writes the file's content to w.
func (e entry) read(w io.Writer) error {
	if e.from == "" {
		_, err := w.Write(e.text)
		return err
	}
	f, err := os.Open(e.from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
