package apiserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensionshelpers "k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
			sum, exists := stored[c.Name]
			if err := applyCRD(gctx, client, c, sum, exists); err != nil {
				return fmt.Errorf("install %s: %w", c.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return discoverable(ctx, cfg, client, crds)
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

// applyCRD creates or replaces a definition, unless the store has it already.
func applyCRD(ctx context.Context, client crdclient.Interface, crd *apiextensionsv1.CustomResourceDefinition, stored string, exists bool) error {
	want, err := digestOf(crd)
	if err != nil || stored == want {
		return err
	}
	c := crd.DeepCopy()
	c.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	metav1.SetMetaDataAnnotation(&c.ObjectMeta, digest, want)
	crds := client.ApiextensionsV1().CustomResourceDefinitions()
	if exists {
		return writing(ctx, func() error {
			old, err := crds.Get(ctx, c.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			c.ResourceVersion = old.ResourceVersion
			_, err = crds.Update(ctx, c, metav1.UpdateOptions{FieldManager: entry})
			return err
		})
	}
	var made *apiextensionsv1.CustomResourceDefinition
	if err := writing(ctx, func() error {
		made, err = crds.Create(ctx, c, metav1.CreateOptions{FieldManager: entry})
		return err
	}); err != nil {
		return err
	}
	return writing(ctx, func() error {
		establish(made)
		_, err := crds.UpdateStatus(ctx, made, metav1.UpdateOptions{FieldManager: entry})
		if !apierrors.IsConflict(err) {
			return err
		}
		now, gerr := crds.Get(ctx, c.Name, metav1.GetOptions{})
		if gerr != nil {
			return gerr
		}
		made = now
		return err
	})
}

func digestOf(crd *apiextensionsv1.CustomResourceDefinition) (string, error) {
	spec, err := json.Marshal(crd.Spec)
	sum := sha256.Sum256(spec)
	return hex.EncodeToString(sum[:]), err
}

// writing repeats a write that came too early or met a controller's.
func writing(ctx context.Context, write func() error) error {
	return poll(ctx, func() (bool, error) {
		err := write()
		if apierrors.IsConflict(err) {
			return false, nil
		}
		return retry(err)
	})
}

// establish does what the library's controllers would do next, in one write
// rather than two for each definition, and dates it back: the library lets the
// first object of a kind established within the last two seconds wait for two
// more, for the sake of other servers that may not know the kind yet. Here is
// one server. A clash of names is still found by the controllers.
func establish(c *apiextensionsv1.CustomResourceDefinition) {
	c.Status.AcceptedNames = c.Spec.Names
	since := metav1.NewTime(time.Now().Add(-time.Minute))
	yes := func(t apiextensionsv1.CustomResourceDefinitionConditionType, reason, message string) apiextensionsv1.CustomResourceDefinitionCondition {
		return apiextensionsv1.CustomResourceDefinitionCondition{Type: t, Status: apiextensionsv1.ConditionTrue, LastTransitionTime: since, Reason: reason, Message: message}
	}
	c.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{ // in the library's words
		yes(apiextensionsv1.NamesAccepted, "NoConflicts", "no conflicts found"),
		yes(apiextensionsv1.Established, "InitialNamesAccepted", "the initial names have been accepted"),
	}
}

// namesAccepted fails when another definition, the user's own, already has the
// names of one of ours.
func namesAccepted(ctx context.Context, client crdclient.Interface) error {
	l, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list custom resource definitions: %w", err)
	}
	for _, c := range l.Items {
		if n := apiextensionshelpers.FindCRDCondition(&c, apiextensionsv1.NamesAccepted); n != nil && n.Status == apiextensionsv1.ConditionFalse {
			return fmt.Errorf("%s: %s", c.Name, n.Message)
		}
	}
	return nil
}

// discoverable waits until every kind is in the server's own list of kinds:
// what kubectl cannot find by its short name is not ready.
func discoverable(ctx context.Context, cfg *rest.Config, client crdclient.Interface, crds []*apiextensionsv1.CustomResourceDefinition) error {
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	checkNames := time.Now().Add(time.Second) // the definitions are large: not at every turn
	return poll(ctx, func() (bool, error) {
		if time.Now().After(checkNames) {
			checkNames = time.Now().Add(time.Second)
			if err := namesAccepted(ctx, client); err != nil {
				return false, err
			}
		}
		_, lists, err := d.ServerGroupsAndResources()
		return err == nil && listed(lists, crds), nil
	})
}

// listed says whether every served version of every definition is in lists.
func listed(lists []*metav1.APIResourceList, crds []*apiextensionsv1.CustomResourceDefinition) bool {
	found := map[string]bool{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			found[r.Name+"."+l.GroupVersion] = true
		}
	}
	for _, c := range crds {
		for _, v := range c.Spec.Versions {
			if v.Served && !found[c.Spec.Names.Plural+"."+c.Spec.Group+"/"+v.Name] {
				return false
			}
		}
	}
	return true
}
