package sandbox

import "fmt"

// Places in the file system that a pod sees.
const (
	podDir     = "/run/pod"     // scratch: its working directory, HOME and TMPDIR
	programDir = "/run/program" // its program, when the host's directories hide it
)

// rooms is the view that a process of a pod has of the file system: the host's,
// read only, but for /tmp, its own /run and what is mounted for it.
type rooms struct {
	files   map[string]string // content of files under /etc that the pod has its own of
	hide    []string          // directories that it sees empty: the mesh's keys are there
	scratch string            // directory of the host that is its podDir
	binds   []bind
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
