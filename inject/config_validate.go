package inject

import (
	"errors"
	"fmt"
	"iter"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"hasp/api"
)

func (c Config) validate(o api.Object) error {
	var errs []error
	fail := func(field, format string, args ...any) { errs = append(errs, o.Errorf(field, format, args...)) }
	if wrong := wrongImage(c.Image); wrong != "" {
		fail("image", "%s", wrong)
	}
	if p := c.ImagePullPolicy; p != "" && p != corev1.PullAlways && p != corev1.PullIfNotPresent && p != corev1.PullNever {
		fail("imagePullPolicy", "%q is not one of Always, IfNotPresent, Never", p)
	}
	if wrong := validation.IsDNS1123Subdomain(c.TrustDomain); len(wrong) > 0 {
		fail("trustDomain", "%s", strings.Join(wrong, "; "))
	}
	if !isAddress(c.ControlPlane) {
		fail("controlPlane", "%q is not HOST:PORT, as in istiod.istio-system.svc:15012", c.ControlPlane)
	}
	if c.ControlPlaneID != "" && !strings.HasPrefix(c.ControlPlaneID, "spiffe://") {
		fail("controlPlaneID", "%q is not a SPIFFE ID, as in spiffe://cluster.local/ns/istio-system/sa/istiod", c.ControlPlaneID)
	}
	if c.CA != "" && !isAddress(c.CA) {
		fail("ca", "%q is not HOST:PORT, as in cert-manager-istio-csr.cert-manager.svc:443", c.CA)
	}
	if c.CertLifetime.Duration != 0 && c.CertLifetime.Duration < time.Minute {
		fail("certLifetime", "%s is too short; write at least 1m", c.CertLifetime.Duration)
	}
	if c.UID < 1 || c.UID >= 1<<31 {
		fail("uid", "%d is no user for a sidecar; write a number from 1 to 2147483647, 1337 in Istio", c.UID)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		fail("logLevel", "%q is not one of debug, info, warn, error", c.LogLevel)
	}
	if wrong := wrongResources(c.Resources); wrong != "" {
		fail("resources", "%s", wrong)
	}
	for field, wrong := range c.wrongCapture() {
		fail(field, "%s", wrong)
	}
	return errors.Join(errs...)
}

// isAddress reports whether s is HOST:PORT.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// wrongImage says what is wrong with the name of an image, as far as an API
// server would.
func wrongImage(image string) string {
	if image == "" {
		return "the image of the sidecar is needed, as in localhost:5000/hasp/hasp-proxy:latest"
	}
	if strings.ContainsAny(image, " \t\r\n") {
		return fmt.Sprintf("%q is not an image; remove the blanks", image)
	}
	return ""
}

// wrongResources finds a request above its limit, which an API server would
// refuse with a message about the whole pod.
func wrongResources(r corev1.ResourceRequirements) string {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		if _, limited := r.Limits[name]; limited && request.Cmp(limit) > 0 {
			return fmt.Sprintf("the sidecar's %s request %s is above its limit %s", name, request.String(), limit.String())
		}
		if request.Sign() < 0 || limit.Sign() < 0 {
			return fmt.Sprintf("the sidecar's %s cannot be negative", name)
		}
	}
	return ""
}

// captureDefaults are the settings about capture as annotations of a pod.
func (c Config) captureDefaults() map[string]string {
	out := map[string]string{}
	ranges := func(key string, list []string) {
		if list != nil {
			out[key] = strings.Join(list, ",")
		}
	}
	ports := func(key string, list []uint16) {
		words := make([]string, 0, len(list))
		for _, p := range list {
			words = append(words, strconv.Itoa(int(p)))
		}
		if len(words) > 0 {
			out[key] = strings.Join(words, ",")
		}
	}
	ranges(api.IncludeOutboundRangesKey, c.IncludeOutboundIPRanges)
	if len(c.ExcludeOutboundIPRanges) > 0 {
		ranges(api.ExcludeOutboundRangesKey, c.ExcludeOutboundIPRanges)
	}
	ports(api.ExcludeOutboundPortsKey, c.ExcludeOutboundPorts)
	ports(api.ExcludeInboundPortsKey, c.ExcludeInboundPorts)
	return out
}

// wrongCapture says what a pod with those annotations would be refused for, by
// field of the settings.
func (c Config) wrongCapture() iter.Seq2[string, string] {
	pod := &corev1.Pod{}
	pod.Annotations = c.captureDefaults()
	_, err := api.PlanCapture(pod)
	return func(yield func(string, string) bool) {
		for _, wrong := range leaves(err) {
			var p *api.PodError
			if errors.As(wrong, &p) && !yield(path.Base(strings.TrimSuffix(p.Field, "]")), p.Text) {
				return
			}
		}
	}
}
