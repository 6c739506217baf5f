package quiet

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func (self) usage() (took time.Duration, held int, err error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, err
	}
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, err
	}
	f := bytes.Fields(data) // all of it, then what is resident
	if len(f) < 2 {
		return 0, 0, errors.New("/proc/self/statm is too short")
	}
	pages, err := strconv.Atoi(string(f[1]))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), pages * os.Getpagesize(), err
}

// dropProgram takes the program's own pages out of this process's memory. To
// start it runs through most of them once (every package's variables, the tables
// of all functions), the kernel maps their neighbours too, and nothing ever lets
// go of them. They stay in the page cache, which all sidecars of a machine share;
// those that are needed come back by a fault without I/O.
func dropProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for _, r := range readOnly(string(maps), program) {
		// Not by unix.Madvise: these addresses are no memory of Go's, and no []byte.
		_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED) // at worst they stay
	}
}

// span of addresses.
type span struct{ from, to uintptr }

// readOnly are the mappings of a file that cannot be written, and so hold
// nothing but the file. maps is in the format of /proc/PID/maps:
//
//	00400000-00e3e000 r-xp 00000000 fe:00 9994737        /usr/bin/hasp-proxy
func readOnly(maps, file string) []span {
	var out []span
	for line := range strings.Lines(maps) {
		f := strings.Fields(line)
		if len(f) < 6 || strings.Contains(f[1], "w") || !strings.HasSuffix(line, " "+file+"\n") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		a, err := strconv.ParseUint(from, 16, 64)
		b, err2 := strconv.ParseUint(to, 16, 64)
		if err == nil && err2 == nil && a < b {
			out = append(out, span{uintptr(a), uintptr(b)})
		}
	}
	return out
}
