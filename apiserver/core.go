package apiserver

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/kube-openapi/pkg/common"
)

// core serves the built-in kinds. The server of custom resources stands before
// it and passes on what it does not know.
type core struct {
	server    *genericapiserver.GenericAPIServer
	stores    map[string]store
	openAPIV3 *common.OpenAPIV3Config
}

func newCore(ctx context.Context, cfg Config, base *genericapiserver.Config, etcd *genericoptions.EtcdOptions) (*core, error) {
	kinds := builtin(cfg.Node)
	scheme, err := newScheme(kinds)
	if err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme)
	c := &core{stores: map[string]store{}}

	gc := *base
	gc.PostStartHooks = map[string]genericapiserver.PostStartHookConfigEntry{}
	gc.Serializer = codecs
	defs := definitions(append(typesOf(kinds), &autoscalingv1.Scale{}, &authenticationv1.SelfSubjectReview{}, &authorizationv1.SelfSubjectAccessReview{}))
	gc.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(defs, openapinamer.NewDefinitionNamer(scheme))
	gc.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(defs, openapinamer.NewDefinitionNamer(scheme))
	c.openAPIV3 = gc.OpenAPIV3Config
	if c.server, err = gc.Complete(nil).New("core", genericapiserver.NewEmptyDelegate()); err != nil {
		return nil, err
	}

	groups, err := c.open(kinds, scheme, codecs, etcd, cfg.Streams)
	if err != nil {
		return nil, err
	}
	if _, err := newVIPs(ctx, c.stores["services"].Store); err != nil {
		return nil, err
	}
	return c, c.install(scheme, codecs, groups)
}

// storages are the endpoints of one API group, all of version v1.
type storages map[string]rest.Storage

// open makes the stores and what hangs below them.
func (c *core) open(kinds []anyKind, scheme *runtime.Scheme, codecs serializer.CodecFactory, etcd *genericoptions.EtcdOptions, streams PodStreams) (map[string]storages, error) {
	groups := map[string]storages{}
	for _, k := range kinds {
		i := k.info()
		o := *etcd
		o.StorageConfig.Codec = codecs.LegacyCodec(i.gv)
		opts := o.CreateRESTOptionsGetter(&genericoptions.SimpleStorageFactory{StorageConfig: o.StorageConfig}, nil)
		s, err := newStore(k, scheme, opts)
		if err != nil {
			return nil, err
		}
		c.stores[i.resource] = s
		if groups[i.gv.Group] == nil {
			groups[i.gv.Group] = storages{}
		}
		groups[i.gv.Group][i.resource] = s
		if i.status {
			groups[i.gv.Group][i.resource+"/status"] = newStatusStore(s, k)
		}
	}
	groups[""]["pods/log"] = logREST{c.stores["pods"].Store, streams}
	groups[""]["pods/attach"] = attachREST{c.stores["pods"].Store, streams}
	groups[""]["pods/exec"] = absentREST{"pods of a mesh on one machine have no exec (nor oc cp); start a pod beside it, as in oc run -i NAME --image=appropriate/curl --restart=Never -- ADDRESS"}
	groups[""]["pods/portforward"] = absentREST{"pods of a mesh on one machine have no port-forward; reach them through the gateway, or from a pod, as in oc run -i NAME --image=appropriate/curl --restart=Never -- ADDRESS"}
	groups["apps"]["deployments/scale"] = scaleREST{c.stores["deployments"].Store}
	groups["authentication.k8s.io"] = storages{"selfsubjectreviews": whoami()}
	groups["authorization.k8s.io"] = storages{"selfsubjectaccessreviews": canI(c.server.Authorizer)}
	return groups, nil
}

func (c *core) install(scheme *runtime.Scheme, codecs serializer.CodecFactory, groups map[string]storages) error {
	for name, s := range groups {
		g := genericapiserver.NewDefaultAPIGroupInfo(name, scheme, runtime.NewParameterCodec(scheme), codecs)
		g.VersionedResourcesStorageMap["v1"] = s
		var err error
		if name == "" {
			err = c.server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, &g)
		} else {
			err = c.server.InstallAPIGroups(&g)
		}
		if err != nil {
			return fmt.Errorf("install API group %q: %w", name, err)
		}
	}
	return nil
}

// namespace reads a Namespace during a request about something else, which is
// why the error has to be told what it is about.
func (c *core) namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	o, err := c.stores["namespaces"].Get(ctx, name, &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), name)
	}
	if err != nil {
		return nil, err
	}
	return o.(*corev1.Namespace), nil
}

func typesOf(kinds []anyKind) []any {
	var out []any
	for _, k := range kinds {
		out = append(out, k.object(), k.list())
	}
	return out
}
