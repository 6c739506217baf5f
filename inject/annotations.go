package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hasp/api"
)

// Istio's annotations about the sidecar itself; those about capture are api's.
const (
	sidecarDomain = "sidecar.istio.io/"

	cpuKey         = sidecarDomain + "proxyCPU"
	cpuLimitKey    = sidecarDomain + "proxyCPULimit"
	memoryKey      = sidecarDomain + "proxyMemory"
	memoryLimitKey = sidecarDomain + "proxyMemoryLimit"
	imageKey       = sidecarDomain + "proxyImage"
	logLevelKey    = sidecarDomain + "logLevel"
	nativeKey      = sidecarDomain + "nativeSidecar"
	rewriteKey     = sidecarDomain + "rewriteAppHTTPProbers"
	proxyConfigKey = "proxy.istio.io/config"
	templatesKey   = "inject.istio.io/templates"
)

// readers is the table of the annotations that say something about the sidecar,
// and how each is read. An error is what is wrong with the value.
func readers() map[string]func(s *sidecar, value string) error {
	return map[string]func(*sidecar, string) error{
		api.InjectKey:  func(_ *sidecar, v string) error { return flag(v, new(bool)) },
		cpuKey:         amount(corev1.ResourceCPU, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Requests }),
		cpuLimitKey:    amount(corev1.ResourceCPU, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Limits }),
		memoryKey:      amount(corev1.ResourceMemory, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Requests }),
		memoryLimitKey: amount(corev1.ResourceMemory, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Limits }),
		imageKey: func(s *sidecar, v string) error {
			if wrong := wrongImage(v); wrong != "" {
				return errors.New(wrong)
			}
			s.cfg.Image = v
			return nil
		},
		logLevelKey: (*sidecar).readLogLevel,
		nativeKey:   func(s *sidecar, v string) error { return flag(v, &s.native) },
		rewriteKey: func(s *sidecar, v string) error {
			s.warn("annotation %s has no effect: probes are answered without rewriting them", rewriteKey)
			return flag(v, new(bool))
		},
		proxyConfigKey: (*sidecar).readProxyConfig,
		templatesKey: func(_ *sidecar, v string) error {
			if v != "sidecar" {
				return errors.New("hasp injects sidecars only; a gateway is the chart's own Deployment")
			}
			return nil
		},
	}
}

// annotations reads the pod's annotations about the sidecar. The error joins one
// [api.PodError] for each that is wrong.
func (s *sidecar) annotations(all, labels map[string]string) error {
	// As in Istio: a pod that speaks of resources speaks of all of them.
	for _, key := range []string{cpuKey, cpuLimitKey, memoryKey, memoryLimitKey} {
		if _, said := all[key]; said {
			s.cfg.Resources = corev1.ResourceRequirements{}
		}
	}
	var errs []error
	table := readers()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		read, ours := table[key]
		if !ours {
			s.noEffect(key, table)
			continue
		}
		if err := read(s, all[key]); err != nil {
			errs = append(errs, api.WrongAnnotation(key, all[key], "%v", err))
		}
	}
	if v, said := labels[api.InjectKey]; said {
		if err := flag(v, new(bool)); err != nil {
			errs = append(errs, api.WrongPod("metadata.labels["+api.InjectKey+"]", "label %s: %q: %v", api.InjectKey, v, err))
		}
	}
	if wrong := wrongResources(s.cfg.Resources); wrong != "" {
		errs = append(errs, api.WrongPod("metadata.annotations", "annotations %s*: %s", sidecarDomain+"proxy", wrong))
	}
	return errors.Join(errs...)
}

// noEffect warns of an annotation that looks like one for the sidecar and is
// not followed.
func (s *sidecar) noEffect(key string, table map[string]func(*sidecar, string) error) {
	if !strings.HasPrefix(key, sidecarDomain) || key == api.InjectStatusKey || key == api.InterceptionModeKey {
		return
	}
	for known := range table {
		if strings.EqualFold(known, key) {
			s.warn("annotation %s has no effect: it is written %s", key, known)
			return
		}
	}
	s.warn("annotation %s has no effect: hasp does not support it", key)
}

func (s *sidecar) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// readLogLevel takes Envoy's words, which Istio's annotation has, too.
func (s *sidecar) readLogLevel(v string) error {
	level, ok := map[string]string{
		"trace": "debug", "debug": "debug", "info": "info", "warning": "warn", "warn": "warn",
		"error": "error", "critical": "error", "off": "error",
	}[v]
	if !ok {
		return errors.New("write debug, info, warning or error")
	}
	s.cfg.LogLevel = level
	return nil
}

// flag reads "true" or "false".
func flag(v string, to *bool) error {
	if v != "true" && v != "false" {
		return errors.New("write true or false, in quotes")
	}
	*to = v == "true"
	return nil
}

// amount reads one resource of the sidecar.
func amount(name corev1.ResourceName, at func(*corev1.ResourceRequirements) *corev1.ResourceList) func(*sidecar, string) error {
	return func(s *sidecar, v string) error {
		q, err := resource.ParseQuantity(v)
		if err != nil {
			return errors.New("not a quantity; write 100m or 128Mi")
		}
		list := at(&s.cfg.Resources)
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
		return nil
	}
}
