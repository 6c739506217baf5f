package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateServiceEntry(spec *field.Path, namespace string, s *networkingapi.ServiceEntry) field.ErrorList {
	errs := validateMatchLabels(spec.Child("workloadSelector", "labels"), s.GetWorkloadSelector().GetLabels())
	if s.WorkloadSelector != nil && len(s.Endpoints) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("endpoints"), "only one of WorkloadSelector or Endpoints is allowed in Service Entry; keep one"))
	}
	errs = append(errs, validateEntryHosts(spec, s)...)
	errs = append(errs, validateEntryAddresses(spec, s)...)
	errs = append(errs, validateEntryPorts(spec.Child("ports"), s)...)
	errs = append(errs, validateEntryEndpoints(spec, s)...)
	return append(errs, validateExportTo(spec.Child("exportTo"), namespace, s.ExportTo, true)...)
}

func byDNS(s *networkingapi.ServiceEntry) bool {
	return s.Resolution == networkingapi.ServiceEntry_DNS || s.Resolution == networkingapi.ServiceEntry_DNS_ROUND_ROBIN
}

func validateEntryHosts(spec *field.Path, s *networkingapi.ServiceEntry) field.ErrorList {
	if len(s.Hosts) == 0 {
		return field.ErrorList{field.Required(spec.Child("hosts"), "service entry must have at least one host")}
	}
	var errs field.ErrorList
	for i, h := range s.Hosts {
		at := spec.Child("hosts").Index(i)
		if h == "*" {
			errs = append(errs, field.Invalid(at, h, "invalid host *; write a name, or a wildcard such as *.example.com"))
			continue
		}
		wrong := validateHost(at, h)
		if len(wrong) == 0 && byDNS(s) && len(s.Endpoints) == 0 && strings.HasPrefix(h, "*") {
			wrong = field.ErrorList{field.Invalid(at, h, fmt.Sprintf("hosts must be FQDN if no endpoints are provided for resolution mode %s; write the whole name, or add endpoints", s.Resolution))}
		}
		errs = append(errs, wrong...)
	}
	return errs
}

func validateEntryAddresses(spec *field.Path, s *networkingapi.ServiceEntry) field.ErrorList {
	var errs field.ErrorList
	for i, a := range s.Addresses {
		at := spec.Child("addresses").Index(i)
		if _, err := netip.ParsePrefix(a); err == nil {
			if byDNS(s) {
				errs = append(errs, field.Invalid(at, a, "CIDR addresses are allowed only for NONE/STATIC resolution types; write an address, or change spec.resolution"))
			}
		} else if !isAddress(a) {
			errs = append(errs, field.Invalid(at, a, "must be an address or a CIDR, as in 192.0.2.10 or 192.0.2.0/24"))
		}
	}
	return errs
}

func validateEntryPorts(p *field.Path, s *networkingapi.ServiceEntry) field.ErrorList {
	var errs field.ErrorList
	names, numbers, blind := map[string]bool{}, map[uint32]bool{}, -1
	for i, port := range s.Ports {
		at := p.Index(i)
		if names[port.GetName()] {
			errs = append(errs, field.Invalid(at.Child("name"), port.GetName(), fmt.Sprintf("service entry port name %q already defined; rename one", port.GetName())))
		}
		if numbers[port.GetNumber()] {
			errs = append(errs, field.Invalid(at.Child("number"), port.GetNumber(), fmt.Sprintf("service entry port %d already defined; keep one", port.GetNumber())))
		}
		names[port.GetName()], numbers[port.GetNumber()] = true, true
		errs = append(errs, validatePortName(at.Child("name"), port.GetName())...)
		errs = append(errs, validatePortNumber(at.Child("number"), port.GetNumber())...)
		if port.GetTargetPort() != 0 {
			errs = append(errs, validatePortNumber(at.Child("targetPort"), port.GetTargetPort())...)
		}
		if port.GetProtocol() != "" && !isProtocol(port.GetProtocol()) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), port.GetProtocol(), protocols()))
		}
		if blind < 0 && !carriesHost(port.GetProtocol()) {
			blind = i
		}
	}
	// Nothing in plain TCP says which of several hosts a connection is for.
	if blind >= 0 && len(s.Hosts) > 1 && s.Resolution != networkingapi.ServiceEntry_NONE {
		errs = append(errs, field.Invalid(p.Index(blind).Child("protocol"), s.Ports[blind].GetProtocol(),
			"multiple hosts provided with non-HTTP, non-TLS ports; write a ServiceEntry for each host"))
	}
	return errs
}

func validateEntryEndpoints(spec *field.Path, s *networkingapi.ServiceEntry) field.ErrorList {
	p := spec.Child("endpoints")
	var errs field.ErrorList
	switch {
	case s.Resolution == networkingapi.ServiceEntry_NONE && len(s.Endpoints) > 0:
		return append(errs, field.Forbidden(p, "no endpoints should be provided for resolution type none; set spec.resolution to STATIC or DNS, or remove them"))
	case s.Resolution == networkingapi.ServiceEntry_DNS_ROUND_ROBIN && len(s.Endpoints) > 1:
		errs = append(errs, field.TooMany(p, len(s.Endpoints), 1))
	}
	ports := map[string]bool{}
	for _, port := range s.Ports {
		ports[port.GetName()] = true
	}
	for i, e := range s.Endpoints {
		at := p.Index(i)
		errs = append(errs, validateWorkloadEntry(at, e)...)
		if s.Resolution == networkingapi.ServiceEntry_STATIC && e.GetAddress() != "" && !isAddress(e.GetAddress()) && !isUnix(e.GetAddress()) {
			errs = append(errs, field.Invalid(at.Child("address"), e.GetAddress(), fmt.Sprintf("endpoint address %q is not a valid IP address; write one, or set spec.resolution to DNS", e.GetAddress())))
		}
		for _, name := range slices.Sorted(maps.Keys(e.GetPorts())) {
			if !ports[name] {
				errs = append(errs, field.Invalid(at.Child("ports").Key(name), e.GetPorts()[name], fmt.Sprintf("endpoint port %d is not defined by the service entry; name one of spec.ports", e.GetPorts()[name])))
			}
		}
	}
	return errs
}

func isUnix(address string) bool { return strings.HasPrefix(address, "unix://") }

// validateWorkloadEntry checks one address behind a service, in an object of its
// own or in a ServiceEntry.
func validateWorkloadEntry(p *field.Path, w *networkingapi.WorkloadEntry) field.ErrorList {
	var errs field.ErrorList
	switch a := w.GetAddress(); {
	case a == "" && w.GetNetwork() == "":
		errs = append(errs, field.Required(p.Child("address"), "address is required; write an IP address or a host name"))
	case a == "" || isAddress(a):
	case isUnix(a):
		if path := strings.TrimPrefix(a, "unix://"); !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") || strings.HasSuffix(path, "/") {
			errs = append(errs, field.Invalid(p.Child("address"), a, fmt.Sprintf("%s is not an absolute path to a file", path)))
		}
		if len(w.GetPorts()) > 0 {
			errs = append(errs, field.Forbidden(p.Child("ports"), fmt.Sprintf("unix endpoint %s must not include ports; remove them", a)))
		}
	case len(validateFQDN(p, a)) > 0:
		errs = append(errs, field.Invalid(p.Child("address"), a, fmt.Sprintf("endpoint address %q is not a valid FQDN or an IP address", a)))
	}
	for _, name := range slices.Sorted(maps.Keys(w.GetPorts())) {
		at := p.Child("ports").Key(name)
		errs = append(errs, validatePortName(at, name)...)
		errs = append(errs, validatePortNumber(at, w.GetPorts()[name])...)
	}
	return append(errs, validateLabels(p.Child("labels"), w.GetLabels())...)
}
