package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"hasp/control"
)

// onDemand is from which size on a mesh is told on demand, for a mesh on this
// machine and a replica on a cluster.
type onDemand string

func (d *onDemand) register(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(d), "on-demand", strconv.Itoa(control.DemandFrom), "tell a proxy only what its workload asks for from so many services on (or four times as many workloads): a number, always or never")
	offer(cmd, "on-demand", "always", "never")
}

// value is control.Config's.
func (d onDemand) value() (int, error) {
	n, err := control.ParseOnDemand(string(d))
	if err != nil {
		return 0, usageError{fmt.Errorf("--on-demand: %w", err)}
	}
	return n, nil
}
