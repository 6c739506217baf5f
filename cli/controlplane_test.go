package cli

import (
	"bytes"
	"context"
	"testing"
)

// What makes no sense is refused before anything is listened on or asked.
func TestControlPlaneRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no name", nil, "hasp: name this replica with --pod; in a pod POD_NAME does\n"},
		{"log level", []string{"--log-level", "loud"}, "hasp: --log-level loud: want debug, info, warn or error\n"},
		{"address", []string{"--pod", "a", "--ca-address", "istio-csr"}, "hasp: --ca-address: address istio-csr: missing port in address\n"},
		{"size", []string{"--pod", "a", "--on-demand", "0"}, "hasp: --on-demand: \"0\" is not always, never or a number of services\n"},
		{"argument", []string{"now"}, "hasp: unknown command \"now\" for \"hasp controlplane\"; see hasp controlplane --help\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			code := Run(context.Background(), Config{Args: append([]string{"controlplane"}, tt.args...), Name: "hasp", Out: &out, Err: &out})
			if code == 0 || out.String() != tt.want {
				t.Errorf("exit status %d, %q, want %q", code, out.String(), tt.want)
			}
		})
	}
}
