package document

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Shell is one session, so that what a command sets the next one has.
type Shell struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// endMark follows each command's output; a document does not contain it.
const endMark = "--- end of the command, status "

// Open starts a session; cmd is a shell that reads commands. Who opens it closes
// it.
func Open(cmd *exec.Cmd) (*Shell, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	cmd.Stdout, cmd.Stderr = write, write // one after the other, as on a terminal
	if err := cmd.Start(); err != nil {
		read.Close()
		return nil, err
	}
	return &Shell{cmd, in, bufio.NewReader(read)}, nil
}

// Run a command and wait for its end. It reads nothing: the input is ours.
func (s *Shell) Run(text string) (output string, status int, err error) {
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\nprintf '\\n%s%%d\\n' $?\n", text, endMark); err != nil {
		return "", 0, err
	}
	var out strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if n, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), endMark); ok {
			status, err := strconv.Atoi(n)
			return strings.TrimSuffix(out.String(), "\n"), status, err
		}
		out.WriteString(line)
		if err != nil {
			return out.String(), 0, fmt.Errorf("the shell ended: %w", err)
		}
	}
}

// Close ends the session.
func (s *Shell) Close() error {
	s.in.Close()
	return s.cmd.Wait()
}
