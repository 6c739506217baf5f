package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"hasp/capture"
	"hasp/mesh"
)

const captureUsage = `hasp-proxy capture redirects the TCP connections of the network namespace it runs
in to the sidecar there, with nftables, and ends. It replaces what it did before,
and needs CAP_NET_ADMIN. It is the container istio-init of a pod.

  hasp-proxy capture --exclude-outbound-ports=5432 -v

Lists are separated by commas. "*" is everything, "" nothing. The sidecar's own
ports for health (15021) and metrics (15090) are always excluded.

Flags:
`

// captureCommand makes the ruleset and applies it where it runs.
func captureCommand(args []string, stdout, stderr io.Writer) error {
	spec, verbose, err := parseCapture(args, stderr)
	if err != nil {
		return err
	}
	if verbose {
		fmt.Fprint(stdout, spec)
	}
	if err := capture.Apply(-1, spec); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "captured: %d rules in nftables table %s\n", len(spec.Rules()), capture.Table)
	return nil
}

// parseCapture takes the command line apart; what is wrong with it is written
// to out, and the error is a usageError.
func parseCapture(args []string, out io.Writer) (spec capture.Spec, verbose bool, err error) {
	f := newFlags("hasp-proxy capture", captureUsage, out)
	spec.OutboundPort, spec.InboundPort = outboundPort, inboundPort
	var probePorts []uint16
	uid := f.Uint("uid", 1337, "`user` of the sidecar, whose own connections are left alone")
	for _, l := range []struct {
		name, value, usage string
		to                 *[]uint16
		all                bool
	}{
		{"include-inbound-ports", "*", "`ports` captured inbound", &spec.IncludeInboundPorts, true},
		{"exclude-inbound-ports", "", "`ports` reached past the sidecar", &spec.ExcludeInboundPorts, false},
		{"include-outbound-ports", "", "`ports` captured outbound at any address", &spec.IncludeOutboundPorts, false},
		{"exclude-outbound-ports", "", "`ports` reached past the sidecar", &spec.ExcludeOutboundPorts, false},
		{"probe-ports", "", "`ports` that kubelets probe by merely connecting", &probePorts, false},
	} {
		f.Var(newList(l.to, port, l.all, l.value), l.name, l.usage)
	}
	f.Var(newList(&spec.IncludeCIDRs, netip.ParsePrefix, true, "*"), "include-outbound-ip-ranges", "address `ranges` captured outbound")
	f.Var(newList(&spec.ExcludeCIDRs, netip.ParsePrefix, false, ""), "exclude-outbound-ip-ranges", "address `ranges` reached past the sidecar")
	f.BoolVar(&verbose, "v", false, "print the ruleset")
	if err := f.parse(args); err != nil {
		return spec, false, err
	}
	if *uid == 0 || *uid >= 1<<32-1 {
		return spec, false, f.fail(fmt.Errorf("--uid %d: the sidecar needs a user of its own", *uid))
	}
	spec.ExemptUID = uint32(*uid)
	spec.ExcludeInboundPorts = append(spec.ExcludeInboundPorts, healthPort, metricsPort)
	spec.Doors = mesh.Doors(probePorts)
	return spec, verbose, nil
}

// list is a flag of values separated by commas.
type list[T any] struct {
	to    *[]T
	parse func(string) (T, error)
	all   bool // "*" is allowed, and leaves the list nil
	text  string
}

func newList[T any](to *[]T, parse func(string) (T, error), all bool, value string) *list[T] {
	return &list[T]{to: to, parse: parse, all: all, text: value}
}

// String implements flag.Value.
func (l *list[T]) String() string { return l.text }

// Set implements flag.Value.
func (l *list[T]) Set(s string) error {
	l.text = s
	if l.all && strings.TrimSpace(s) == "*" {
		*l.to = nil
		return nil
	}
	out := []T{}
	for _, word := range strings.Split(s, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := l.parse(word)
		if err != nil {
			return err
		}
		out = append(out, v)
	}
	*l.to = out
	return nil
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New(strconv.Quote(s) + " is not a port")
	}
	return uint16(n), nil
}
