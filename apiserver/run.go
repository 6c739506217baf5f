package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	crdserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	crdoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/admission"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes/scheme"
)

// Run serves until ctx ends or something breaks, then stops everything and
// releases the directory. It returns nil when ctx ended it. It may be called
// once.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	err := s.run(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	return nil
}

func (s *Server) run(ctx context.Context) error {
	routeLogs(s.cfg.Log)
	start := time.Now()
	servers := s.cfg.EtcdServers
	if len(servers) == 0 {
		e, err := startEtcd(ctx, s.cfg.Dir, s.cfg.History, etcdLogger(s.cfg.Log))
		if err != nil {
			return err
		}
		defer e.Close()
		servers = []string{"unix://" + etcdSock(s.cfg.Dir)}
		s.cfg.Log.Debug("etcd ready", "after", time.Since(start))
	}
	front, err := s.build(ctx, servers)
	if err != nil {
		return err
	}
	// The server outlives what talks to it from here.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := front.RunWithContext(serving); err != nil {
			return err
		}
		if serving.Err() == nil {
			return errors.New("the server ended by itself")
		}
		return nil
	})
	g.Go(func() error {
		defer stop()
		err := s.furnish(ctx, start)
		stopping.Store(true)
		return err
	})
	return g.Wait()
}

// prepared is a server that can run.
type prepared interface {
	RunWithContext(context.Context) error
}

// build puts the servers together: custom resources in front, built-in kinds
// behind, one store under both.
func (s *Server) build(ctx context.Context, servers []string) (prepared, error) {
	etcd := etcdOptions(s.cfg, servers)
	admit := &admit{cfg: s.cfg}
	cfg, err := s.genericConfig(etcd, admission.NewChainHandler(admit))
	if err != nil {
		return nil, err
	}
	core, err := newCore(ctx, s.cfg, cfg, etcd)
	if err != nil {
		return nil, fmt.Errorf("built-in kinds: %w", err)
	}
	admit.namespace = core.namespace
	front, err := newFront(cfg, etcd, core)
	if err != nil {
		return nil, fmt.Errorf("custom resources: %w", err)
	}
	p := front.PrepareRun()
	mergeOpenAPI(core, front)
	return p, nil
}

func newFront(base *genericapiserver.Config, etcd *genericoptions.EtcdOptions, core *core) (*genericapiserver.GenericAPIServer, error) {
	var groups groupList
	gc := *base
	wrap(&gc, func(next http.Handler) http.Handler { return groups.before(next) })
	rc := &genericapiserver.RecommendedConfig{Config: gc}
	defs := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	namer := openapinamer.NewDefinitionNamer(crdserver.Scheme, scheme.Scheme)
	rc.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(defs, namer)
	rc.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(defs, namer)
	c := crdserver.Config{GenericConfig: rc, ExtraConfig: crdserver.ExtraConfig{
		CRDRESTOptionsGetter: crdoptions.NewCRDRESTOptionsGetter(*etcd, gc.ResourceTransformers, gc.StorageObjectCountTracker),
		MasterCount:          1,
		AuthResolverWrapper:  webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, gc.LoopbackClientConfig, nil),
	}}
	s, err := c.Complete().New(core.server)
	if err != nil {
		return nil, err
	}
	crds := s.Informers.Apiextensions().V1().CustomResourceDefinitions()
	groups.crds = crds.Lister()
	crds.Informer() // so that the factory starts it
	return s.GenericAPIServer, nil
}
