package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"

	admission "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hasp/api"
	"hasp/mesh"
	"hasp/world"
)

// maxReview bounds a review, in bytes: an API server takes objects of up to
// 3 MiB, and a review has the old and the new one.
const maxReview = 8 << 20

// foretell says what would come of an object, or of its deletion, in lines.
type foretell = func(ctx context.Context, u *unstructured.Unstructured, remove bool) []string

// validate answers the API server's reviews of objects of the mesh with the
// words of the embedded API server's admission: package api's, and on a dry run
// those of whoever foretells. They name who calls whom, and API servers show no
// certificate by default, so no pod is told.
func validate(f foretell, pod func(netip.Addr) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told := f
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || pod(from.Addr().Unmap()) {
			told = nothingForetold
		}
		answer(w, r, told)
	})
}

func nothingForetold(context.Context, *unstructured.Unstructured, bool) []string { return nil }

// systemNamespace may have pods that pass on what an API server asks that runs
// elsewhere (konnectivity).
const systemNamespace = "kube-system"

// atPod reports whether an address is that of a pod that has no business with
// the webhooks. API servers have a node's.
func atPod(w *world.World, a netip.Addr) bool {
	return w == nil || slices.ContainsFunc(w.Workloads, func(wl *mesh.Workload) bool {
		return !wl.HostNetwork && wl.Namespace != systemNamespace &&
			slices.ContainsFunc(wl.Addresses, func(o netip.Addr) bool { return o.Unmap() == a })
	})
}

func answer(w http.ResponseWriter, r *http.Request, f foretell) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		code := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "read the review: "+err.Error(), code)
		return
	}
	review, err := reviewed(r.Context(), body, f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(review)
}

// reviewed is the answer to a review (admission.k8s.io/v1 AdmissionReview). It
// is an error when the question is none.
func reviewed(ctx context.Context, body []byte, f foretell) (*admission.AdmissionReview, error) {
	var review admission.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("read the review: %w", err)
	}
	if want := admission.SchemeGroupVersion.WithKind("AdmissionReview"); review.GroupVersionKind() != want {
		return nil, fmt.Errorf("the review is a %s, want %s", review.GroupVersionKind(), want)
	}
	req := review.Request
	if req == nil {
		return nil, errors.New("the review has no request")
	}
	answer := &admission.AdmissionResponse{UID: req.UID, Allowed: true}
	errs, warnings, err := judge(ctx, req, f)
	switch {
	case err != nil:
		answer.Allowed, answer.Result = false, &apierrors.NewBadRequest(err.Error()).ErrStatus
	case len(errs) > 0:
		kind := schema.GroupKind{Group: req.Kind.Group, Kind: req.Kind.Kind}
		answer.Allowed, answer.Result = false, &apierrors.NewInvalid(kind, req.Name, errs).ErrStatus
	default:
		answer.Warnings = warnings
	}
	return &admission.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admission.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Response: answer,
	}, nil
}

// judge a creation or a change. What only labels, deletes or moves the status of
// an object that was let in before a rule existed is not judged again.
func judge(ctx context.Context, req *admission.AdmissionRequest, f foretell) (field.ErrorList, []string, error) {
	if req.SubResource != "" || req.Operation != admission.Create && req.Operation != admission.Update {
		return nil, nil, nil
	}
	now, err := object(req.Object.Raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read the object: %w", err)
	}
	if req.Operation == admission.Update {
		old, err := object(req.OldObject.Raw)
		if err != nil {
			return nil, nil, fmt.Errorf("read the old object: %w", err)
		}
		if reflect.DeepEqual(old.Object["spec"], now.Object["spec"]) && reflect.DeepEqual(old.Object["data"], now.Object["data"]) {
			return nil, nil, nil
		}
	}
	if errs := api.ValidateUnstructured(now); len(errs) > 0 {
		return errs, nil, nil
	}
	warnings := api.WarningsUnstructured(now)
	if req.DryRun != nil && *req.DryRun {
		warnings = append(warnings, f(ctx, now, false)...)
	}
	return nil, warnings, nil
}

func object(raw []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	return u, nil
}
