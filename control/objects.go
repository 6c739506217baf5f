package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"hasp/mesh"
	"hasp/source"
)

const (
	// settleStatus is how long acknowledgements are gathered before objects'
	// statuses are written, so that a generation costs an object one write.
	settleStatus = 100 * time.Millisecond
	// askAgain is how soon other control planes that are behind are asked
	// again, and askAnyway how often they are asked when all is well.
	askAgain  = 200 * time.Millisecond
	askAnyway = 5 * time.Second
)

// WriteStatus tells each istio object, in its status, whether the proxies took
// it: condition Reconciled, as Istio's own status of configuration
// distribution. It writes only what changed, and returns when ctx ends. Run does
// it unless Config says StatusByLeader; then one caller at a time may.
func (c *Control) WriteStatus(ctx context.Context) error {
	written := map[string]saying{} // by object: what was written last
	ask := askAnyway
	for {
		var others <-chan time.Time
		if c.cfg.Others != nil {
			others = time.After(ask)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-others:
		case <-c.told:
			timer := time.NewTimer(settleStatus)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
		}
		ask = askAnyway
		if !c.writeStatuses(ctx, written) {
			ask = askAgain
		}
	}
}

// saying is what the status of an object says.
type saying struct {
	uid             types.UID
	generation      int64
	reason, message string
}

// writeStatuses reports whether all proxies are up to date. What was once
// acknowledged is not taken back while proxies are behind with something else: a pod
// that comes would be two writes to every object.
func (c *Control) writeStatuses(ctx context.Context, written map[string]saying) bool {
	s := c.current.Load()
	if s == nil {
		return true // told before the first World: again after it
	}
	p := c.Progress()
	if c.cfg.Others != nil {
		for _, o := range c.cfg.Others(ctx) {
			p.add(o)
		}
	}
	seen := map[string]bool{}
	for _, o := range s.objects {
		key := o.key()
		seen[key] = true
		cond := o.condition(p, s)
		now, last := saying{o.meta.GetUID(), o.meta.GetGeneration(), cond.Reason, cond.Message}, written[key]
		before := saying{now.uid, now.generation, acknowledged, last.message}
		if last == now || last == before && cond.Reason == pending {
			continue
		}
		if err := c.patchStatus(ctx, o, cond); err != nil {
			c.cfg.Log.Warn("status not written", slog.String("object", key), slog.Any("error", err))
			continue
		}
		written[key] = now
	}
	for key := range written {
		if !seen[key] {
			delete(written, key)
		}
	}
	return !p.Behind
}

// statusObject is an object of istio.io whose status we write.
type statusObject struct {
	kind string
	gvr  schema.GroupVersionResource
	meta metav1.Object
}

func (o statusObject) key() string {
	return o.kind + " " + o.meta.GetNamespace() + "/" + o.meta.GetName()
}

// Reasons of the condition when nothing is wrong.
const (
	acknowledged = "Acknowledged"
	pending      = "Pending"
)

// condition of the object under the current generation.
// The message counts nobody: every pod that comes would be a write to every
// object.
func (o statusObject) condition(p Progress, s *snapshot) metav1.Condition {
	cond := metav1.Condition{Type: "Reconciled", Status: metav1.ConditionTrue, Reason: acknowledged,
		Message: "Every connected proxy is up to date."}
	if p.Behind {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, pending, "Not every connected proxy is up to date yet."
	}
	if len(p.Refused) > 0 {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, "Refused", strings.Join(p.Refused, "; ")
	}
	for _, pr := range s.problems {
		if o.is(pr.Object) {
			cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, "NotUsed", pr.Message
		}
	}
	var unserved []string
	for _, d := range s.unserved {
		if o.is(d.Object) {
			unserved = append(unserved, d.Message)
		}
	}
	if len(unserved) > 0 {
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, "PartlyUsed", strings.Join(unserved, "; ")
	}
	return cond
}

func (o statusObject) is(origin mesh.Origin) bool {
	return origin.Kind == o.kind && origin.Namespace == o.meta.GetNamespace() && origin.Name == o.meta.GetName()
}

func (c *Control) patchStatus(ctx context.Context, o statusObject, cond metav1.Condition) error {
	cond.LastTransitionTime = metav1.Now()
	body, err := json.Marshal(map[string]any{"status": map[string]any{
		"observedGeneration": o.meta.GetGeneration(),
		"conditions":         []metav1.Condition{cond},
	}})
	if err != nil {
		return err
	}
	_, err = c.cfg.Client.Resource(o.gvr).Namespace(o.meta.GetNamespace()).
		Patch(ctx, o.meta.GetName(), types.MergePatchType, body, metav1.PatchOptions{FieldManager: "hasp"}, "status")
	if apierrors.IsNotFound(err) || ctx.Err() != nil {
		return nil // deleted meanwhile
	}
	return err
}

// statusKind is a kind whose objects' statuses are written.
type statusKind struct {
	kind, plural string
	of           func(*source.Objects) []metav1.Object
}

func statusKinds() []statusKind {
	return []statusKind{
		{"Policy", "policies", func(o *source.Objects) []metav1.Object { return metas(o.Policies) }},
		{"MeshPolicy", "meshpolicies", func(o *source.Objects) []metav1.Object { return metas(o.MeshPolicies) }},
		{"PeerAuthentication", "peerauthentications", func(o *source.Objects) []metav1.Object { return metas(o.PeerAuthentications) }},
		{"AuthorizationPolicy", "authorizationpolicies", func(o *source.Objects) []metav1.Object { return metas(o.AuthorizationPolicies) }},
		{"DestinationRule", "destinationrules", func(o *source.Objects) []metav1.Object { return metas(o.DestinationRules) }},
		{"ServiceEntry", "serviceentries", func(o *source.Objects) []metav1.Object { return metas(o.ServiceEntries) }},
		{"Gateway", "gateways", func(o *source.Objects) []metav1.Object { return metas(o.Gateways) }},
		{"VirtualService", "virtualservices", func(o *source.Objects) []metav1.Object { return metas(o.VirtualServices) }},
	}
}

func metas[T metav1.Object](list []T) []metav1.Object {
	out := make([]metav1.Object, len(list))
	for i, m := range list {
		out[i] = m
	}
	return out
}

// StatusResources are the resources whose status subresource WriteStatus
// patches: what a role must grant.
func StatusResources() []schema.GroupVersionResource {
	var out []schema.GroupVersionResource
	for _, k := range statusKinds() {
		out = append(out, k.resource())
	}
	return out
}

// resource is the kind's, in the version it is read in.
func (k statusKind) resource() schema.GroupVersionResource {
	all := source.Resources()
	return all[slices.IndexFunc(all, func(r schema.GroupVersionResource) bool { return r.Resource == k.plural })]
}

// statusObjects are all istio objects, with the resource to patch them through.
func statusObjects(o *source.Objects) []statusObject {
	var out []statusObject
	for _, k := range statusKinds() {
		for _, m := range k.of(o) {
			out = append(out, statusObject{k.kind, k.resource(), m})
		}
	}
	return out
}
