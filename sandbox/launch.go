package sandbox

import "os"

// launch describes a process of a pod.
type launch struct {
	network  *network
	hostname string
	path     string   // of the program
	argv     []string // with the program's name first
	env      []string
	dir      string
	uid, gid int // inside its user namespace
	files    []*os.File
	rooms    rooms
	// proxy: not a workload but the mesh's own proxy, which runs as the
	// sandbox's root, without any capability but setting marks.
	proxy bool
}
