package main

import (
	"bufio"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is where a run took place.
type machine struct {
	cpu    string
	cores  int
	kernel string
	distro string
	load   string
}

func thisMachine() machine {
	m := machine{cpu: field("/proc/cpuinfo", "model name", ":"), cores: runtime.NumCPU(), distro: strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load, _, _ = strings.Cut(string(b), " ")
	}
	return m
}

// field is the value of a name in a file of lines; "unknown" without it.
func field(file, name, sep string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), sep); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
