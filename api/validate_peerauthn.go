package api

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePeerAuthentication(spec *field.Path, s *securityapi.PeerAuthentication) field.ErrorList {
	errs := validateSelector(spec.Child("selector", "matchLabels"), s.GetSelector())
	ports := spec.Child("portLevelMtls")
	switch {
	case s.PortLevelMtls != nil && len(s.PortLevelMtls) == 0:
		errs = append(errs, field.Required(ports, "port level mTLS, if defined, must have at least one element; add a port, as in 8080: {mode: DISABLE}, or remove the field"))
	case len(s.PortLevelMtls) > 0 && len(s.GetSelector().GetMatchLabels()) == 0:
		errs = append(errs, field.Forbidden(ports, "mesh/namespace peer authentication cannot have port level mTLS; add a selector for the workloads whose ports they are"))
	}
	for _, port := range slices.Sorted(maps.Keys(s.PortLevelMtls)) {
		if port < 1 || port > 65535 {
			errs = append(errs, field.Invalid(ports.Key(strconv.FormatUint(uint64(port), 10)), port, "port must be in range 1..65535; write the port of the container, not of the Service"))
		}
	}
	return errs
}

// validateSelector checks the labels that pick workloads.
func validateSelector(p *field.Path, s *typeapi.WorkloadSelector) field.ErrorList {
	return validateMatchLabels(p, s.GetMatchLabels())
}

func validateMatchLabels(p *field.Path, labels map[string]string) field.ErrorList {
	var errs field.ErrorList
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case k == "":
			errs = append(errs, field.Invalid(p, k, "empty key is not supported in selector; write a label of the pods"))
		case strings.Contains(k, "*") || strings.Contains(labels[k], "*"):
			errs = append(errs, field.Invalid(p.Key(k), labels[k], "wildcard is not supported in selector; write the label's whole value"))
		}
	}
	return errs
}
