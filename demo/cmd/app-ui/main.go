// Command app-ui serves the web page of the shared-boards app.
package main

import (
	"context"
	"net"
	"os"

	"sharedboards/internal/service"
	"sharedboards/internal/ui"
)

func main() { os.Exit(service.Main("app-ui", run)) }

func run(ctx context.Context, in service.Input) error {
	addr := in.Listen("8080")
	boards := in.Flags.String("boards", backendURL(in, "BOARDS_SVC", "boards"), "`URL` of the boards service")
	profiles := in.Flags.String("userprofile", backendURL(in, "PROFILE_SVC", "userprofile"), "`URL` of the userprofile service")
	fake := in.Flags.Bool("fake-user", in.Env("FAKE_USER", "false") == "true", "sign everybody in as the demo's user")
	if err := in.Parse(); err != nil {
		return err
	}
	h, err := ui.NewHandler(ui.Config{Boards: *boards, Profiles: *profiles, FakeUser: *fake, Log: in.Log})
	if err != nil {
		return err
	}
	return service.Run(ctx, service.Config{Addr: *addr, Handler: h, Log: in.Log})
}

// backendURL is the address of a service by the original's variables:
// PREFIX_HOST, PREFIX_PORT and HTTP_PROTOCOL.
func backendURL(in service.Input, prefix, host string) string {
	return in.Env("HTTP_PROTOCOL", "http://") +
		net.JoinHostPort(in.Env(prefix+"_HOST", host), in.Env(prefix+"_PORT", "8080"))
}
