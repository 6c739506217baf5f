//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// noCore keeps the kernel from writing our memory down when we crash: the keys of
// every connection are in it. The limit is 1 and not 0: a core_pattern that is a
// program (systemd-coredump, apport) is not bound by it, core(5), but Linux takes
// exactly 1 as a word that nobody is to be started (fs/coredump.c).
func noCore() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("core files: %w", err)
	}
	limit.Max = min(limit.Max, 1) // never up, which only root may
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("core files: %w", err)
	}
	return nil
}
