package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// revisionBump leaves room, at a restore, for the changes made since the
// backup, so that no client sees a revision twice with different contents.
const revisionBump = 1_000_000

// Backup writes a consistent copy of the running server's store to a new file
// with mode 0600. It holds every Secret.
func Backup(ctx context.Context, dir, file string) error {
	if err := backup(ctx, dir, file); err != nil {
		return fmt.Errorf("apiserver: back up %s: %w", dir, err)
	}
	return nil
}

func backup(ctx context.Context, dir, file string) error {
	c, err := etcdClient(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	// Under another name first: a file of the right name is a whole backup.
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

// Restore replaces the store in dir by a backup. No server may run there
// (ErrLocked). The store it replaces stays beside it as etcd.replaced-TIME, in
// UTC. Keys and kubeconfig are not part of a backup and stay.
func Restore(ctx context.Context, dir, file string) error {
	if err := restore(ctx, dir, file); err != nil {
		return fmt.Errorf("apiserver: restore %s from %s: %w", dir, file, err)
	}
	return nil
}

func restore(ctx context.Context, dir, file string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlockDir(lock)
	// Convert, then swap: the old store moves only once the new one is whole.
	fresh := etcdDir(dir) + ".restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	peer := "unix://" + peerSock(dir)
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: etcdName, OutputDataDir: fresh,
		PeerURLs: []string{peer}, InitialCluster: etcdName + "=" + peer, InitialClusterToken: "etcd-cluster",
		RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	err = os.Rename(etcdDir(dir), etcdDir(dir)+".replaced-"+time.Now().UTC().Format("20060102T150405.000Z"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, etcdDir(dir))
}

// Defrag gives the disk space that deleted objects leave back to the file
// system. The running server answers nothing meanwhile (about a second per GB).
func Defrag(ctx context.Context, dir string) error {
	c, err := etcdClient(dir)
	if err != nil {
		return fmt.Errorf("apiserver: defragment %s: %w", dir, err)
	}
	defer c.Close()
	if _, err := c.Defragment(ctx, c.Endpoints()[0]); err != nil {
		return fmt.Errorf("apiserver: defragment %s: %w", dir, err)
	}
	return nil
}

// etcdClient reaches the embedded etcd of a running server.
func etcdClient(dir string) (*clientv3.Client, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(etcdSock(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no server runs there")
	}
	return clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + etcdSock(dir)}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}
