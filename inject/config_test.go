package inject_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/inject"
)

func TestParseConfig(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		got, err := inject.ParseConfig("values", []byte(text))
		if diff := cmp.Diff(inject.DefaultConfig(), got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
	got, err := inject.ParseConfig("values", []byte("cni: true\ncertLifetime: 90m\nresources:\n  requests: {cpu: 1}\n  limits: null\n"))
	if err != nil {
		t.Fatal(err)
	}
	requests := got.Resources.Requests
	if !got.CNI || got.CertLifetime.Duration != 90*time.Minute || requests.Cpu().String() != "1" || len(requests) != 1 || got.Resources.Limits != nil || !got.NativeSidecar {
		t.Errorf("got %+v", got)
	}
	requests = inject.DefaultConfig().Resources.Requests
	if requests.Cpu().String() != "10m" {
		t.Errorf("the defaults changed: %v", requests)
	}
}

// TestParseConfigResources: a default is taken away by not repeating it.
func TestParseConfigResources(t *testing.T) {
	for text, want := range map[string]string{
		"cni: true":                             "requests cpu 10m memory 40Mi, limits cpu 0 memory 256Mi",
		"resources: {}":                         "requests cpu 10m memory 40Mi, limits cpu 0 memory 256Mi",
		"resources: {limits: {}}":               "requests cpu 10m memory 40Mi, limits cpu 0 memory 0",
		"resources: {limits: null}":             "requests cpu 10m memory 40Mi, limits cpu 0 memory 0",
		"resources: {limits: {memory: null}}":   "requests cpu 10m memory 40Mi, limits cpu 0 memory 0",
		"resources: {limits: {cpu: 2}}":         "requests cpu 10m memory 40Mi, limits cpu 2 memory 0",
		"resources: {requests: {memory: 64Mi}}": "requests cpu 0 memory 64Mi, limits cpu 0 memory 256Mi",
		"resources: null":                       "requests cpu 0 memory 0, limits cpu 0 memory 0",
	} {
		cfg, err := inject.ParseConfig("values", []byte(text))
		r, l := cfg.Resources.Requests, cfg.Resources.Limits
		got := fmt.Sprintf("requests cpu %s memory %s, limits cpu %s memory %s", r.Cpu(), r.Memory(), l.Cpu(), l.Memory())
		if err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
		if _, there := l["memory"]; there && l.Memory().IsZero() {
			t.Errorf("%s: a limit of no memory", text)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"cnii: true":                          `values:1: cnii: unknown field "cnii"; did you mean "cni"?`,
		"uid: many":                           `values:1: uid: must be a whole number, not the string "many"`,
		"cni: [":                              `values:1: not valid YAML: did not find expected node content`,
		"cni: true\n---\ncni: false":          `values:2: a second document; settings are one`,
		"\nimage: ''\nuid: 0":                 "values:2: image: the image of the sidecar is needed, as in localhost:5000/hasp/hasp-proxy:latest\nvalues:3: uid: 0 is no user for a sidecar; write a number from 1 to 2147483647, 1337 in Istio",
		"image: a b":                          `values:1: image: "a b" is not an image; remove the blanks`,
		"imagePullPolicy: Sometimes":          `values:1: imagePullPolicy: "Sometimes" is not one of Always, IfNotPresent, Never`,
		"trustDomain: a_b":                    `values:1: trustDomain: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
		"controlPlane: istiod":                `values:1: controlPlane: "istiod" is not HOST:PORT, as in istiod.istio-system.svc:15012`,
		"controlPlaneID: istiod":              `values:1: controlPlaneID: "istiod" is not a SPIFFE ID, as in spiffe://cluster.local/ns/istio-system/sa/istiod`,
		"ca: csr:0":                           `values:1: ca: "csr:0" is not HOST:PORT, as in cert-manager-istio-csr.cert-manager.svc:443`,
		"certLifetime: 1s":                    `values:1: certLifetime: 1s is too short; write at least 1m`,
		"certLifetime: soon":                  `values:1: certLifetime: time: invalid duration "soon"`,
		"logLevel: loud":                      `values:1: logLevel: "loud" is not one of debug, info, warn, error`,
		"resources: {limits: {memory: 1M}}":   `values:1: resources: the sidecar's memory request 40Mi is above its limit 1M`,
		"resources: {limits: {memory: x}}":    `values:1: resources.limits[memory]: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
		"excludeInboundPorts: [70000]":        `values:1: excludeInboundPorts[0]: 70000 is out of range, must be 0 to 65535`,
		"excludeInboundPorts: [0]":            `values:1: excludeInboundPorts: annotation traffic.sidecar.istio.io/excludeInboundPorts: "0": "0" is not a port; write numbers from 1 to 65535, separated by commas`,
		"excludeOutboundIPRanges: [10.0.0.1]": `values:1: excludeOutboundIPRanges: annotation traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.1": "10.0.0.1" is not an address range; write 10.0.0.1/32`,
	} {
		_, err := inject.ParseConfig("values", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("image: a\nresources: {limits: {cpu: 1}}\nexcludeOutboundIPRanges: ['*', 10.0.0.0/8]\n"))
	f.Add([]byte("uid: 1e9\ncertLifetime: 1h\nincludeOutboundIPRanges: []\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := inject.ParseConfig("values", text)
		if err == nil && (cfg.Image == "" || cfg.UID < 1) {
			t.Errorf("accepted %+v", cfg)
		}
	})
}
