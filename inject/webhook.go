package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// maxReview bounds a request. An object is at most 3 MiB in an API server, and a
// review has it once, or twice when it is an update.
const maxReview = 8 << 20

// Handler is the mutating webhook: an AdmissionReview in, a JSONPatch out. All
// its fields are needed. It changes nothing itself, so that a dry run is like
// any other.
type Handler struct {
	// Config is asked for each pod.
	Config func() Config
	// Namespace finds the labels and annotations of a namespace. An error keeps
	// the pod out for now: whether it is to be in the mesh is not known.
	Namespace func(name string) (*corev1.Namespace, error)
	Log       *slog.Logger
}

// ServeHTTP answers one review. What is no review of a pod's creation is refused
// with a status that is not 200, and then the webhook's failurePolicy decides.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	review, status, err := readReview(r)
	if err != nil {
		h.Log.Warn("not an admission review", "from", r.RemoteAddr, "err", err)
		http.Error(w, err.Error(), status)
		return
	}
	review.Response = h.review(review.Request)
	review.Response.UID = review.Request.UID
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.Log.Debug("admission review not answered", "from", r.RemoteAddr, "err", err)
	}
}

// readReview reads a request of admission.k8s.io/v1; the status goes with an
// error.
func readReview(r *http.Request) (*admissionv1.AdmissionReview, int, error) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed, errors.New("an admission review is a POST")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, http.StatusUnsupportedMediaType, errors.New("an admission review is application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReview+1))
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("read the admission review: %w", err)
	}
	if len(body) > maxReview {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("an admission review of more than %d bytes", maxReview)
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("decode the admission review: %w", err)
	}
	if review.GroupVersionKind() != admissionv1.SchemeGroupVersion.WithKind("AdmissionReview") {
		return nil, http.StatusBadRequest, fmt.Errorf("%s %s is not an AdmissionReview of %s", review.APIVersion, review.Kind, admissionv1.SchemeGroupVersion)
	}
	if review.Request == nil {
		return nil, http.StatusBadRequest, errors.New("an admission review without a request")
	}
	pods := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	if q := review.Request; q.Resource != pods || q.SubResource != "" || q.Operation != admissionv1.Create {
		return nil, http.StatusBadRequest, fmt.Errorf("%s %s: only CREATE of pods is injected; correct the webhook's rules", q.Operation, q.Resource.Resource)
	}
	return review, http.StatusOK, nil
}

// review decides on one pod.
func (h Handler) review(q *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	log := h.Log.With("namespace", q.Namespace, "pod", podName(q), "uid", q.UID)
	patch, result, err := h.patch(q)
	if err != nil {
		log.Warn("pod refused", "err", err)
		return refused(err)
	}
	log.Debug("pod reviewed", "injected", result.Inject, "why", result.Why)
	out := &admissionv1.AdmissionResponse{Allowed: true, Warnings: result.Warnings}
	if patch != nil {
		out.Patch, out.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
	}
	return out
}

// patch is the difference that injection makes, nil when it makes none.
func (h Handler) patch(q *admissionv1.AdmissionRequest) ([]byte, Result, error) {
	tree := map[string]any{}
	if err := kjson.Unmarshal(q.Object.Raw, &tree); err != nil {
		return nil, Result{}, fmt.Errorf("the pod cannot be read: %w", err)
	}
	ns, err := h.Namespace(q.Namespace)
	if err != nil {
		return nil, Result{}, &unknownNamespace{q.Namespace, err}
	}
	result, err := Template(tree, q.Namespace, ns, h.Config())
	if err != nil || !result.Inject {
		return nil, result, err
	}
	b, err := difference(tree, result.Tree)
	return b, result, err
}

// difference is a JSONPatch (RFC 6902) from one tree to another.
func difference(from, to map[string]any) ([]byte, error) {
	before, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("write the pod: %w", err)
	}
	after, err := json.Marshal(to)
	if err != nil {
		return nil, fmt.Errorf("write the pod: %w", err)
	}
	operations, err := jsonpatch.CreatePatch(before, after)
	if err != nil {
		return nil, fmt.Errorf("compare the pods: %w", err)
	}
	return json.Marshal(operations)
}

// unknownNamespace is a pod that came before its namespace was known here; who
// made it tries again.
type unknownNamespace struct {
	name string
	err  error
}

func (e *unknownNamespace) Error() string {
	return fmt.Sprintf("namespace %s is not known yet, so whether the pod is to be in the mesh is not either; try again: %v", e.name, e.err)
}

func (e *unknownNamespace) Unwrap() error { return e.err }

// refused keeps the pod out. The API server shows the message to whoever made it.
func refused(err error) *admissionv1.AdmissionResponse {
	status := &metav1.Status{
		Status: metav1.StatusFailure, Message: oneLine(err),
		Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
	}
	var early *unknownNamespace
	if errors.As(err, &early) {
		status.Reason, status.Code = metav1.StatusReasonServiceUnavailable, http.StatusServiceUnavailable
	}
	return &admissionv1.AdmissionResponse{Result: status}
}

// podName is the name of the pod, or what it will begin with.
func podName(q *admissionv1.AdmissionRequest) string {
	if q.Name != "" {
		return q.Name
	}
	var pod metav1.PartialObjectMetadata
	if err := json.Unmarshal(q.Object.Raw, &pod); err != nil {
		return ""
	}
	if pod.Name != "" {
		return pod.Name
	}
	return pod.GenerateName + "*"
}
