package apiserver

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	crdserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/util/sets"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/compatibility"
	basecompatibility "k8s.io/component-base/compatibility"
)

// Version is what the server calls itself: the Kubernetes whose API it speaks.
const Version = "v1.37.2+hasp"

// compaction is how often old revisions are dropped without Config.History.
const compaction = 5 * time.Minute

// etcdOptions are how both servers reach the store.
func etcdOptions(cfg Config, servers []string) *genericoptions.EtcdOptions {
	o := genericoptions.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry",
		crdserver.Codecs.LegacyCodec(apiextensionsv1beta1.SchemeGroupVersion, apiextensionsv1.SchemeGroupVersion)))
	o.StorageConfig.Transport.ServerList = servers
	o.StorageConfig.Transport.TrustedCAFile = cfg.EtcdCA
	o.StorageConfig.Transport.CertFile = cfg.EtcdCert
	o.StorageConfig.Transport.KeyFile = cfg.EtcdKey
	o.StorageConfig.CompactionInterval = compaction
	if cfg.History > 0 && len(cfg.EtcdServers) == 0 {
		o.StorageConfig.CompactionInterval = 0 // etcd does it itself
	}
	// With one server beside its etcd the cache costs memory (measured: 198 MB
	// against 623 with 10,000 objects) and gains nothing.
	o.EnableWatchCache = false
	// There is no garbage collector: a delete that waits for one would never end.
	o.EnableGarbageCollection = false
	return o
}

// genericConfig is what both servers share: who may connect, who may do what,
// what is refused, where it is kept.
func (s *Server) genericConfig(etcd *genericoptions.EtcdOptions, admit admission.Interface) (*genericapiserver.Config, error) {
	cfg := genericapiserver.NewConfig(crdserver.Codecs)
	cfg.EffectiveVersion = namedVersion{compatibility.DefaultBuildEffectiveVersion()}
	cfg.MergedResourceConfig = crdserver.DefaultAPIResourceConfigSource()
	cfg.AggregatedDiscoveryGroupManager = aggregated.NewResourceManager("apis")
	cfg.ExternalAddress = s.cfg.Listener.Addr().String()
	cfg.EnableProfiling = false
	cfg.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString("attach", "log"))
	if err := s.serving(cfg); err != nil {
		return nil, err
	}
	if err := s.authentication(cfg); err != nil {
		return nil, err
	}
	cfg.Authorization.Authorizer = authorizerfactory.NewPrivilegedGroups("system:masters")
	cfg.AdmissionControl = admit
	return cfg, etcd.ApplyTo(cfg)
}

func (s *Server) serving(cfg *genericapiserver.Config) error {
	so := genericoptions.NewSecureServingOptions()
	so.Listener, so.BindPort, so.BindAddress = s.local, s.local.Addr().(*net.TCPAddr).Port, net.IPv4(127, 0, 0, 1)
	so.ServerCert.CertKey = genericoptions.CertKey{CertFile: s.keys.file("server.crt"), KeyFile: s.keys.file("server.key")}
	so.MinTLSVersion = "VersionTLS12"
	if err := so.ApplyTo(&cfg.SecureServing); err != nil {
		return fmt.Errorf("serve TLS: %w", err)
	}
	return s.loopback(cfg)
}

// loopback is how the library's own controllers reach its server. Its helper
// for this makes an RSA key, which takes 150 ms of every start.
func (s *Server) loopback(cfg *genericapiserver.Config) error {
	cert, key, err := s.keys.server(genericapiserver.LoopbackClientServerNameOverride)
	if err != nil {
		return fmt.Errorf("issue the loopback certificate: %w", err)
	}
	sni, err := dynamiccertificates.NewStaticSNICertKeyContent("loopback", cert, key, genericapiserver.LoopbackClientServerNameOverride)
	if err != nil {
		return fmt.Errorf("loopback certificate: %w", err)
	}
	cfg.SecureServing.SNICerts = append(cfg.SecureServing.SNICerts, sni)
	if cfg.LoopbackClientConfig, err = cfg.SecureServing.NewLoopbackClientConfig(rand.Text(), s.keys.caPEM); err != nil {
		return fmt.Errorf("loopback client: %w", err)
	}
	cfg.LoopbackClientConfig.Dial = s.local.dial
	cfg.LoopbackClientConfig.QPS = -1
	return nil
}

// authentication is by client certificate; nobody is anonymous.
func (s *Server) authentication(cfg *genericapiserver.Config) error {
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", filepath.Join(s.keys.dir, "ca.crt"))
	if err != nil {
		return err
	}
	cfg.SecureServing.ClientCA = ca
	cfg.Authentication.Authenticator, _, err = authenticatorfactory.DelegatingAuthenticatorConfig{ClientCertificateCAContentProvider: ca}.New()
	return err
}

// wrap puts a handler before those of the library, behind its authentication.
func wrap(cfg *genericapiserver.Config, f func(next http.Handler) http.Handler) {
	cfg.BuildHandlerChainFunc = func(h http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(f(h), c)
	}
}

// namedVersion names our build: the libraries' own name is set by the linker
// and otherwise no version at all, which kubectl refuses to read.
type namedVersion struct {
	basecompatibility.EffectiveVersion
}

func (v namedVersion) Info() *apimachineryversion.Info {
	i := v.EffectiveVersion.Info()
	i.GitVersion = Version
	return i
}
