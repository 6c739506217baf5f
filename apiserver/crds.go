package apiserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"golang.org/x/sync/errgroup"
	apiextensionshelpers "k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// digest is the annotation by which an unchanged definition is known at the
// next start and left alone.
const digest = "hasp/digest"

// installCRDs applies the definitions all at once and returns when every kind
// is served and can be discovered.
func installCRDs(ctx context.Context, cfg *rest.Config, crds []*apiextensionsv1.CustomResourceDefinition) error {
	client, err := crdclient.NewForConfig(cfg)
	if err != nil {
		return err
	}
	stored, err := storedDigests(ctx, client)
	if err != nil {
		return fmt.Errorf("list custom resource definitions: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range crds {
		g.Go(func() error {
			if err := applyCRD(gctx, client, c, stored[c.Name]); err != nil {
				return fmt.Errorf("install %s: %w", c.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := established(ctx, client, crds); err != nil {
		return err
	}
	return discoverable(ctx, cfg, crds)
}

func storedDigests(ctx context.Context, client crdclient.Interface) (map[string]string, error) {
	out := map[string]string{}
	var l *apiextensionsv1.CustomResourceDefinitionList
	err := poll(ctx, func() (bool, error) {
		var err error
		l, err = client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
		return retry(err)
	})
	if err != nil {
		return nil, err
	}
	for _, c := range l.Items {
		out[c.Name] = c.Annotations[digest]
	}
	return out, nil
}

// retry: a server that has just begun to listen turns some requests away.
func retry(err error) (done bool, _ error) {
	if apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	return true, err
}

func applyCRD(ctx context.Context, client crdclient.Interface, crd *apiextensionsv1.CustomResourceDefinition, stored string) error {
	c := crd.DeepCopy()
	c.TypeMeta = metav1.TypeMeta{APIVersion: apiextensionsv1.SchemeGroupVersion.String(), Kind: "CustomResourceDefinition"}
	c.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	spec, err := json.Marshal(c.Spec)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(spec)
	want := hex.EncodeToString(sum[:])
	if stored == want {
		return nil
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[digest] = want
	body, err := applyBody(c)
	if err != nil {
		return err
	}
	force := true
	return poll(ctx, func() (bool, error) {
		_, err := client.ApiextensionsV1().CustomResourceDefinitions().Patch(ctx, c.Name, types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: entry, Force: &force})
		return retry(err)
	})
}

// applyBody is c without the status, which is not ours to apply.
func applyBody(c *apiextensionsv1.CustomResourceDefinition) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	return json.Marshal(m)
}

func established(ctx context.Context, client crdclient.Interface, crds []*apiextensionsv1.CustomResourceDefinition) error {
	return poll(ctx, func() (bool, error) {
		l, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list custom resource definitions: %w", err)
		}
		ready := map[string]bool{}
		for i := range l.Items {
			c := &l.Items[i]
			ready[c.Name] = apiextensionshelpers.IsCRDConditionTrue(c, apiextensionsv1.Established)
			if n := apiextensionshelpers.FindCRDCondition(c, apiextensionsv1.NamesAccepted); n != nil && n.Status == apiextensionsv1.ConditionFalse {
				return false, fmt.Errorf("%s: %s", c.Name, n.Message)
			}
		}
		for _, c := range crds {
			if !ready[c.Name] {
				return false, nil
			}
		}
		return true, nil
	})
}

// discoverable: what kubectl cannot find by its short name is not ready.
func discoverable(ctx context.Context, cfg *rest.Config, crds []*apiextensionsv1.CustomResourceDefinition) error {
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		_, lists, err := d.ServerGroupsAndResources()
		if err != nil {
			return false, nil
		}
		found := map[string]bool{}
		for _, l := range lists {
			for _, r := range l.APIResources {
				found[r.Name+"."+l.GroupVersion] = true
			}
		}
		for _, c := range crds {
			for _, v := range c.Spec.Versions {
				if v.Served && !found[c.Spec.Names.Plural+"."+c.Spec.Group+"/"+v.Name] {
					return false, nil
				}
			}
		}
		return true, nil
	})
}
