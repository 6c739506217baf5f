// Command userprofile serves the users' profiles and photos, from SQLite or
// PostgreSQL.
package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"sharedboards/internal/service"
	"sharedboards/internal/userprofile"
)

func main() { os.Exit(service.Main("userprofile", run)) }

func run(ctx context.Context, in service.Input) error {
	wait, err := time.ParseDuration(in.Env("USER_PROFILE_DELAY", "0s"))
	if err != nil {
		return fmt.Errorf("USER_PROFILE_DELAY: %w", err)
	}
	addr := in.Listen("8080")
	style := in.Flags.String("style", in.Env("USER_PROFILE_STYLE_ID", "1"), "look of the profile page: `1, 2 or 3`")
	delay := in.Flags.Duration("delay", wait, "wait this long before every answer")
	postgres := in.Flags.String("postgres", "", "`URL` of a PostgreSQL database to use instead of SQLite")
	dir := in.Flags.String("data", in.Env("DATA_DIR", ""), "`directory` of the SQLite file; empty: a temporary one, removed at the end")
	if err := in.Parse(); err != nil {
		return err
	}
	if *postgres == "" { // not the flag's default, which --help would print with the password
		*postgres = postgresURL(in)
	}
	if *dir == "" && *postgres == "" {
		tmp, err := os.MkdirTemp("", "userprofile-")
		if err != nil {
			return fmt.Errorf("make a temporary data directory: %w", err)
		}
		defer os.RemoveAll(tmp)
		*dir = tmp
	}
	store, err := open(*postgres, *dir)
	if err != nil {
		return err
	}
	defer store.Close()
	return service.Run(ctx, service.Config{
		Addr: *addr,
		Handler: userprofile.NewHandler(userprofile.HandlerConfig{
			Store: store, Log: in.Log, StyleID: *style, Delay: *delay,
		}),
		Log: in.Log,
	})
}

func open(postgres, dir string) (*userprofile.Store, error) {
	if postgres != "" {
		return userprofile.OpenPostgres(postgres)
	}
	return userprofile.OpenSQLite(dir)
}

// postgresURL is the database that the original's environment variables name,
// or "" without POSTGRESQL_SERVICE_HOST.
func postgresURL(in service.Input) string {
	host := in.Env("POSTGRESQL_SERVICE_HOST", "")
	if host == "" {
		return ""
	}
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(in.Env("POSTGRESQL_USER", "sarah"), in.Env("POSTGRESQL_PASSWORD", "connor")),
		Host:   net.JoinHostPort(host, in.Env("POSTGRESQL_SERVICE_PORT", "5432")),
		Path:   "/" + in.Env("POSTGRESQL_DATABASE", "userprofiledb"),
	}
	return u.String()
}
