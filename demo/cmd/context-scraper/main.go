// Command context-scraper searches the internet for a term.
package main

import (
	"context"
	"os"

	"sharedboards/internal/scraper"
	"sharedboards/internal/service"
)

func main() { os.Exit(service.Main("context-scraper", run)) }

func run(ctx context.Context, in service.Input) error {
	addr := in.Listen("8080")
	upstream := in.Flags.String("upstream", in.Env("GOOGLE_APIS_URL", scraper.DefaultUpstream), "`URL` of the search engine")
	if err := in.Parse(); err != nil {
		return err
	}
	h, err := scraper.NewHandler(scraper.Config{
		Upstream: *upstream,
		Key:      in.Env("GOOGLE_API_KEY", ""),
		CX:       in.Env("GOOGLE_CX", ""),
		Log:      in.Log,
	})
	if err != nil {
		return err
	}
	return service.Run(ctx, service.Config{Addr: *addr, Handler: h, Log: in.Log})
}
