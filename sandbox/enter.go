package sandbox

import "io/fs"

// Enter says how the process that Command makes is started.
type Enter struct {
	// Detach gives the process a session of its own, so that it survives the
	// terminal it was started from.
	Detach bool
}

// Inside says what Setup shall leave in place.
type Inside struct {
	// Files is how many files were handed to Command.
	Files int
	// Keep lists directories that stay visible although they may lie under
	// /run, such as the state directory. Those that do not exist are ignored.
	Keep []string
}

// Missing is something the host does not allow and the sandbox needs.
type Missing struct {
	What string // what could not be done
	Err  error  // what the kernel said
	Fix  string // the command that allows it, or ""
}

func (m *Missing) Error() string {
	s := "sandbox: " + m.What + ": " + m.Err.Error()
	if m.Fix != "" {
		s += " (to allow it: " + m.Fix + ")"
	}
	return s
}

// Unwrap is what the kernel said.
func (m *Missing) Unwrap() error { return m.Err }

// setting is a switch of the kernel that can forbid what the sandbox needs.
type setting struct {
	file string // under /proc/sys
	bad  func(value string) bool
	fix  string
}

// userNamespaceSettings are the switches known to forbid user namespaces.
var userNamespaceSettings = []setting{
	{"user/max_user_namespaces", is("0"), "sudo sysctl -w user.max_user_namespaces=15000"},
	{"kernel/unprivileged_userns_clone", is("0"), "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
	{"kernel/apparmor_restrict_unprivileged_userns", is("1"), "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
}

func is(want string) func(string) bool { return func(v string) bool { return v == want } }

// forbidding is the fix for the first setting that forbids user namespaces
// according to proc (a view of /proc/sys), or "" when none does.
func forbidding(proc fs.FS, settings []setting) string {
	for _, s := range settings {
		b, err := fs.ReadFile(proc, s.file)
		if err == nil && s.bad(trimLine(b)) {
			return s.fix
		}
	}
	return ""
}

func trimLine(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return string(b)
}
