package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
)

// Places in the file system that a pod sees.
const (
	podDir     = "/run/pod"     // scratch: its working directory, HOME and TMPDIR
	programDir = "/run/program" // its program, when the host's directories hide it
)

// rooms is the view that a process of a pod has of the file system: the host's,
// read only, but for /tmp, its own /run and what is shown to it in binds.
type rooms struct {
	files map[string]string // content of files under /etc that the pod has its own of
	hide  []string          // directories that it sees empty: the mesh's keys are there
	binds []bind
}

// bind shows a directory or file of the host at another place.
type bind struct {
	from, to string
	readOnly bool
}

// etcFiles are what a pod needs to know of names.
func etcFiles(namespace, hostname, addr4, addr6 string) map[string]string {
	return map[string]string{
		"/etc/resolv.conf": fmt.Sprintf("nameserver %s\nnameserver %s\nsearch %s.svc.%[4]s svc.%[4]s %[4]s\noptions ndots:5 timeout:2 attempts:2\n",
			Gateway, Gateway6, namespace, ClusterDomain),
		"/etc/hosts":         fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n%s\t%[2]s\n", addr4, hostname, addr6),
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
		"/etc/hostname":      hostname + "\n",
	}
}

// program makes sure that the workload can reach its program, and says where.
// It could not if the program is in a directory that is hidden from it, or that
// is closed to the user that it is.
func (r *rooms) program(path string, user int) string {
	if !closedTo(path, user) && !r.hides(path) {
		return path
	}
	to := filepath.Join(programDir, filepath.Base(path))
	r.binds = append(r.binds, bind{from: path, to: to, readOnly: true})
	return to
}

func (r *rooms) hides(path string) bool {
	for _, dir := range append([]string{"/run"}, r.hide...) {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// closedTo reports whether a directory above a program is closed to a user
// other than this process's.
func closedTo(path string, user int) bool {
	if user == os.Getuid() {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return true
		}
		if dir == "/" || dir == "." {
			return false
		}
	}
}
