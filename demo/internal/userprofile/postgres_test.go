package userprofile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// startPostgres runs a real PostgreSQL in a temporary directory until the test
// ends and returns its URL. Without PostgreSQL on the machine the test is
// skipped, but in CI that is a failure.
func startPostgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql")
		}
		t.Skip("no PostgreSQL server in /usr/lib/postgresql")
	}
	bin := found[len(found)-1]
	// Not t.TempDir, whose parent only its owner may enter.
	dir, err := os.MkdirTemp("", "userprofile-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := ordinaryUser(t, dir)
	data := filepath.Join(dir, "data")

	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "sarah", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-k", dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	server.SysProcAttr, server.Dir = as, dir
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // PostgreSQL's fast shutdown
		<-drained
		if err := server.Wait(); err != nil {
			t.Errorf("postgres: %v", err)
		}
	})
	lines := bufio.NewReader(stderr)
	ready := waitFor(lines, "ready to accept connections")
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, lines) }()
	if ready != nil {
		t.Fatal(ready)
	}
	return "postgres://sarah@127.0.0.1:" + port + "/postgres?sslmode=disable"
}

// waitFor reads lines until one has the words.
func waitFor(lines *bufio.Reader, words string) error {
	var seen strings.Builder
	for {
		line, err := lines.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, words) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("postgres ended before it was ready:\n%s", seen.String())
		}
	}
}

// ordinaryUser is how to start PostgreSQL, which refuses to run as root: then
// it runs as nobody, who is given the directory.
func ordinaryUser(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attr
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
	return attr
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
