// Command after-stdin starts a program when somebody is there to read what it
// says.
//
//	after-stdin curl boards:8080/shareditems
//
// "kubectl run -i" attaches only after its container runs, and what a quick
// program printed before that is lost to it. An attached client gives itself
// away on standard input: there is something to read, or its end. after-stdin
// waits for that, two seconds at most, and then becomes the program, which finds
// its input untouched.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long nobody may say anything.
const patience = 2 * time.Second

// notFound is what a shell says of a program that is not there.
const notFound = 127

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "after-stdin: a program is needed, as in: after-stdin curl example.com")
		os.Exit(2)
	}
	program, err := exec.LookPath(os.Args[1])
	if err == nil {
		wait(0, patience)
		err = unix.Exec(program, os.Args[1:], os.Environ())
	}
	fmt.Fprintf(os.Stderr, "after-stdin: %s: %v\n", os.Args[1], err)
	os.Exit(notFound)
}

// wait returns when the descriptor has something to read or is at its end, or
// after a time. It reads nothing. A descriptor that cannot be waited for, a
// closed one say, is not waited for.
func wait(fd int32, atMost time.Duration) {
	deadline := time.Now().Add(atMost)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		// Rounded up, or the last part of a millisecond would be a busy loop.
		ms := int((left + time.Millisecond - 1) / time.Millisecond)
		if _, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLIN}}, ms); err != unix.EINTR {
			return
		}
	}
}
