package ca

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Names of the files, Istio's.
const (
	rootCertFile = "root-cert.pem"
	rootKeyFile  = "root-key.pem"
	caCertFile   = "ca-cert.pem"
	caKeyFile    = "ca-key.pem"
	chainFile    = "cert-chain.pem"
)

// maxFile bounds what is read of one file: some hundreds of certificates.
const maxFile = 1 << 20

// store is where an authority's files are: a directory, or [Files] in memory.
type store interface {
	fmt.Stringer
	has(name string) bool
	read(name string) ([]byte, error)
	// write puts a file in place whole or not at all.
	write(name string, content []byte) error
}

// dir is a directory as a store.
type dir string

func (d dir) String() string { return string(d) }

func (d dir) has(name string) bool {
	_, err := os.Stat(filepath.Join(string(d), name))
	return err == nil
}

func (d dir) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), name))
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", f.Name(), maxFile)
	}
	return b, nil
}

// write makes files readable by the owner only.
func (d dir) write(name string, content []byte) error {
	f, err := os.CreateTemp(string(d), "."+name+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(string(d), name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Files are an authority's files by name, for whoever keeps them in something
// else than a directory: the data of a Kubernetes Secret in the layout of
// Istio's cacerts. A file without content counts as missing, since Istio's own
// Secrets have such.
type Files map[string][]byte

func (f Files) String() string { return "the authority" }

func (f Files) has(name string) bool { return len(f[name]) > 0 }

func (f Files) read(name string) ([]byte, error) {
	switch b := f[name]; {
	case len(b) == 0:
		return nil, fmt.Errorf("read the authority: there is no %s", name)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	default:
		return b, nil
	}
}

func (f Files) write(name string, content []byte) error {
	f[name] = content
	return nil
}
