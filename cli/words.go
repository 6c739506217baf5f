package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hasp/mesh"
	"hasp/truth"
)

// partyName is an end of a connection as a person calls it: NAME.NAMESPACE by
// its Deployment where it has one, else its address.
func partyName(p truth.Party) string {
	switch {
	case p.Owner != "" && p.Namespace != "":
		return p.Owner + "." + p.Namespace
	case p.Workload != "":
		ns, name, _ := strings.Cut(p.Workload, "/")
		return name + "." + ns
	case p.Process != "":
		return "process " + p.Process
	case p.Address != "" && p.Kind == truth.KindHost:
		return "node " + host(p.Address)
	case p.Address != "":
		return host(p.Address)
	case p.Identity != "":
		return p.Identity
	}
	return "unknown"
}

// host of HOST:PORT, or what is none as it stands.
func host(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().Unmap().String()
	}
	return address
}

// destinationName of a link, with its port. What never got as far as a workload
// went to a service.
func destinationName(l truth.Link) string {
	name := partyName(l.Destination)
	if l.Destination.Workload == "" && l.Service != "" {
		name = l.Service
	}
	return withPort(name, l.Port)
}

func withPort(name string, port uint16) string {
	if port == 0 {
		return name
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	return name + ":" + strconv.Itoa(int(port))
}

// securityWords are what was spoken, for a person.
var securityWords = map[mesh.Security]string{
	mesh.Plaintext: "plaintext", mesh.MutualTLS: "mTLS", mesh.SimpleTLS: "TLS", mesh.PassedTLS: "its own TLS", mesh.Probed: "probe",
}

func securityWord(s mesh.Security) string {
	if w, ok := securityWords[s]; ok {
		return w
	}
	return "unknown"
}

// for how long, in one unit or two: "12s", "3m", "5h", "12d".
func howLong(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// days and less, spelled out: "12 days".
func spelled(d time.Duration) string {
	number := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch d = max(d, 0); {
	case d < time.Minute:
		return number(int(d.Seconds()), "second")
	case d < time.Hour:
		return number(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return number(int(d.Hours()), "hour")
	}
	return number(int(d.Hours()/24), "day")
}

// size in bytes, in three digits or so: "820 B", "1.2 kB".
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), "kMGTPE"
	i := -1
	for f >= 999.5 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[i])
	}
	return fmt.Sprintf("%.0f %cB", f, units[i])
}

// tlsWords of a handshake: version and key exchange.
func tlsWords(h *mesh.Handshake) string {
	if h == nil || h.TLS == "" {
		return "-"
	}
	words := h.TLS
	if h.Group != "" {
		words += " " + h.Group
	}
	return words
}

// moment in the reader's own time.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}
