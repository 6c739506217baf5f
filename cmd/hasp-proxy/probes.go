package main

import (
	"encoding/json"
	"fmt"

	"hasp/mesh"
)

// parseProbes reads the kubelet's probes, which whoever injected the sidecar
// took from the pod. Fields and kinds it does not know are for newer proxies.
func parseProbes(s string) ([]mesh.Probe, error) {
	if s == "" {
		return nil, nil
	}
	var out []mesh.Probe
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		return nil, fmt.Errorf("--probes: %w", err)
	}
	if len(out) > mesh.MaxProbes {
		return nil, fmt.Errorf("--probes: %d are more than %d", len(out), mesh.MaxProbes)
	}
	for i, p := range out {
		if p.Port == 0 || p.Kind == "" {
			return nil, fmt.Errorf("--probes: number %d names no kind or no port", i+1)
		}
	}
	return out, nil
}
