package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	etcdName  = "hasp"
	etcdQuota = 2 << 30 // bytes; beyond it etcd refuses writes
	// A single member elects itself; with etcd's own figures (100, 1000) a
	// restart waits for nearly a second.
	etcdTick, etcdElection = 20, 100 // milliseconds
	maxSockPath            = 107     // bytes: sockaddr_un(7) less the final zero
)

func etcdDir(dir string) string  { return filepath.Join(dir, "etcd") }
func etcdSock(dir string) string { return filepath.Join(dir, "etcd.sock") }
func peerSock(dir string) string { return filepath.Join(dir, "peer.sock") }

// startEtcd runs a single-member etcd on a unix socket in dir, whose lock the
// caller holds. The caller closes it.
func startEtcd(ctx context.Context, dir string, history time.Duration, log *zap.Logger) (*embed.Etcd, error) {
	if len(etcdSock(dir)) > maxSockPath {
		return nil, fmt.Errorf("data directory %s: its path is too long to hold a unix socket, by %d bytes", dir, len(etcdSock(dir))-maxSockPath)
	}
	for _, p := range []string{etcdSock(dir), peerSock(dir)} { // a killed process leaves them
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	e, err := embed.StartEtcd(etcdConfig(dir, history, log))
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-time.After(time.Minute):
		err = errors.New("not ready within a minute")
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Close()
	return nil, fmt.Errorf("start etcd: %w", err)
}

func etcdConfig(dir string, history time.Duration, log *zap.Logger) *embed.Config {
	c := embed.NewConfig()
	c.Name = etcdName
	c.Dir = etcdDir(dir)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	client, peer := url.URL{Scheme: "unix", Path: etcdSock(dir)}, url.URL{Scheme: "unix", Path: peerSock(dir)}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = etcdTick, etcdElection
	c.EnableGRPCGateway = false
	c.QuotaBackendBytes = etcdQuota
	if history > 0 {
		c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, history.String()
	}
	return c
}
