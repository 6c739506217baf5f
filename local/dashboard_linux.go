package local

import (
	"context"
	"fmt"
	"net"

	"hasp/dashboard"
)

// dashboard serves the page on the listener made on the host.
func (d *daemon) dashboard(ctx context.Context) error {
	ln, err := net.FileListener(d.listeners[fdDashboard])
	if err != nil {
		return fmt.Errorf("the dashboard's listener: %w", err)
	}
	d.listeners[fdDashboard].Close()
	return serveHTTP(ctx, ln, dashboard.Handler(func() (any, error) { return d.status() }))
}

// status is the one answer to the command, its JSON and the page.
func (d *daemon) status() (Status, error) {
	s, err := readState(d.o.Dir)
	return Status{State: s, Control: d.control.Status()}, err
}
