package cni

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lookAgain is how long a change may go unseen where the file system does not
// tell of it.
const lookAgain = 10 * time.Second

// keep installs the plugin and looks after it until ctx ends: another network
// plugin that writes its list anew would leave pods uncaptured. tell hears the
// outcome of every look.
func (i Installer) keep(ctx context.Context, log *slog.Logger, tell func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cni: watch: %w", err)
	}
	defer w.Close()
	for _, dir := range []string{i.ConfDir, i.BinDir} {
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("cni: watch %s: %w", dir, err)
		}
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	said, seen := "", new(stamp)
	for {
		changed, err := i.install(seen)
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			log.Error("plugin not installed", slog.Any("error", err))
		case err == nil && (changed || said != ""):
			said = ""
			log.Info("plugin installed", slog.String("bin", i.BinDir), slog.String("conf", i.ConfDir), slog.Bool("chained", i.Chained))
		}
		tell(err)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-w.Events:
		case err := <-w.Errors:
			// Events were lost, which is what looking again is for.
			log.Warn("watching the node's directories", slog.Any("error", err))
		}
	}
}
