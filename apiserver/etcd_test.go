package apiserver_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hasp/apiserver"
)

// With an etcd of the user's own the server keeps nothing beside it, and
// another server on the same etcd has the same objects.
func TestExternalEtcd(t *testing.T) {
	dir := t.TempDir()
	sock := func(name string) []url.URL { return []url.URL{{Scheme: "unix", Path: filepath.Join(dir, name)}} }
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "data")
	c.ListenClientUrls, c.AdvertiseClientUrls = sock("client"), sock("client")
	c.ListenPeerUrls, c.AdvertisePeerUrls = sock("peer"), sock("peer")
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	<-e.Server.ReadyNotify()

	for i, want := range [][]string{nil, {"first"}} {
		cfg, err := config(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cfg.EtcdServers = []string{"unix://" + filepath.Join(dir, "client")}
		s, stop, err := run(cfg)
		if err != nil {
			t.Fatal(err)
		}
		k, err := kubernetes.NewForConfig(s.RESTConfig())
		if err != nil {
			t.Fatal(err)
		}
		if got := names(t, k); !slices.Equal(got, want) {
			t.Errorf("server %d finds %v, want %v", i, got, want)
		}
		if i == 0 {
			create(t, k, "first")
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, "etcd")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("server %d started an etcd of its own: %v", i, err)
		}
		stop()
	}
}

// With a History an object can be read as it was.
func TestHistory(t *testing.T) {
	cfg, err := config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.History = time.Hour
	s, stop, err := run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	k, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	create(t, k, "changing")
	maps := k.CoreV1().ConfigMaps("default")
	was, err := maps.Get(t.Context(), "changing", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "changing", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := maps.List(t.Context(), metav1.ListOptions{ResourceVersion: was.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil || len(l.Items) != 1 || l.Items[0].UID != was.UID {
		t.Errorf("at revision %s: %v, %v", was.ResourceVersion, l, err)
	}
}

// A directory whose sockets could not be made is named at once.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	cfg, err := config(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := apiserver.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "its path is too long to hold a unix socket, by ") {
		t.Errorf("got %v", err)
	}
}
