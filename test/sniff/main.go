// Command sniff captures every packet on one interface of its network namespace
// until its input ends, then prints a wire.Report as JSON. It says "listening"
// on standard error once nothing can escape it.
//
//	nsenter -t PID -n sniff hasp0 >report.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"hasp/test/wire"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sniff INTERFACE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sniff:", err)
		os.Exit(1)
	}
}

func run(name string) error {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	conn, err := listen(ifi)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintln(os.Stderr, "listening")

	// The input's end is the order to stop; a deadline wakes the reader.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		conn.SetReadDeadline(time.Unix(1, 0))
	}()
	var tap wire.Tap
	buf := make([]byte, 1<<17) // a segment before it is cut can have 64 KiB
	for {
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", name, err)
		}
		tap.Frame(time.Now(), buf[:n])
	}
	stats, err := conn.Stats()
	if err != nil {
		return fmt.Errorf("count what was dropped: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(tap.Report(int64(stats.Drops)))
}

// listen with a buffer that outlasts a busy moment.
func listen(ifi *net.Interface) (*packet.Conn, error) {
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", ifi.Name, err)
	}
	if err := conn.SetPromiscuous(true); err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen to everything on %s: %w", ifi.Name, err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	const size = 64 << 20
	err = raw.Control(func(fd uintptr) {
		// Without the privilege of the first, the second goes up to the
		// system's limit; what is lost then is counted.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
	return conn, err
}
