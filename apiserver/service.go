package apiserver

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceKind() anyKind {
	return kind[corev1.Service]{
		gv: corev1.SchemeGroupVersion, resource: "services", singular: "service", shortNames: []string{"svc"}, categories: []string{"all"},
		newObject:      func() runtime.Object { return &corev1.Service{} },
		newList:        func() runtime.Object { return &corev1.ServiceList{} },
		name:           validation.NameIsDNS1035Label,
		defaults:       defaultService,
		validate:       validateService,
		validateUpdate: validateServiceUpdate,
		keepStatus:     func(to, from *corev1.Service) { to.Status = from.Status },
		keepSpec:       func(to, from *corev1.Service) { to.Spec = from.Spec },
		fields: func(s *corev1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		},
		columns: columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "|", "Selector"),
		row:     serviceRow,
	}
}

func defaultService(s *corev1.Service) {
	orDefault(&s.Spec.Type, corev1.ServiceTypeClusterIP)
	orDefault(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		orDefaultPtr(&s.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		orDefault(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
}

func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

func validateService(s *corev1.Service) field.ErrorList {
	p := field.NewPath("spec")
	errs := oneOf(s.Spec.Type, p.Child("type"), corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		name := strings.TrimSuffix(s.Spec.ExternalName, ".")
		if name == "" {
			return append(errs, field.Required(p.Child("externalName"), ""))
		}
		for _, msg := range utilvalidation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(p.Child("externalName"), s.Spec.ExternalName, msg))
		}
		return errs
	}
	if len(s.Spec.Ports) == 0 && !headless(s) {
		errs = append(errs, field.Required(p.Child("ports"), ""))
	}
	return append(errs, validateServicePorts(s.Spec.Ports, p.Child("ports"))...)
}

func validateServicePorts(ports []corev1.ServicePort, p *field.Path) (errs field.ErrorList) {
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, port := range ports {
		p := p.Index(i)
		switch {
		case port.Name == "" && len(ports) > 1:
			errs = append(errs, field.Required(p.Child("name"), ""))
		case port.Name != "" && names[port.Name]:
			errs = append(errs, field.Duplicate(p.Child("name"), port.Name))
		case port.Name != "":
			for _, msg := range utilvalidation.IsDNS1123Label(port.Name) {
				errs = append(errs, field.Invalid(p.Child("name"), port.Name, msg))
			}
		}
		names[port.Name] = true
		for _, msg := range utilvalidation.IsValidPortNum(int(port.Port)) {
			errs = append(errs, field.Invalid(p.Child("port"), port.Port, msg))
		}
		errs = append(errs, oneOf(port.Protocol, p.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		errs = append(errs, validateTargetPort(port.TargetPort, p.Child("targetPort"))...)
		key := fmt.Sprint(port.Protocol, port.Port)
		if numbers[key] {
			errs = append(errs, field.Duplicate(p, corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		numbers[key] = true
	}
	return errs
}

func validateTargetPort(t intstr.IntOrString, p *field.Path) (errs field.ErrorList) {
	if t.Type == intstr.Int {
		for _, msg := range utilvalidation.IsValidPortNum(t.IntValue()) {
			errs = append(errs, field.Invalid(p, t.IntVal, msg))
		}
		return errs
	}
	for _, msg := range utilvalidation.IsValidPortName(t.StrVal) {
		errs = append(errs, field.Invalid(p, t.StrVal, msg))
	}
	return errs
}

func validateServiceUpdate(n, o *corev1.Service) field.ErrorList {
	if n.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.ClusterIP == "" {
		return nil
	}
	if n.Spec.ClusterIP != o.Spec.ClusterIP || !equal(n.Spec.ClusterIPs, o.Spec.ClusterIPs) {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs").Index(0), n.Spec.ClusterIPs, "may not change once set")}
	}
	return nil
}

func serviceRow(s *corev1.Service) []any {
	return []any{s.Name, string(s.Spec.Type), orNone(s.Spec.ClusterIP), externalIP(s), servicePorts(s.Spec.Ports), age(s), selectorText(s.Spec.Selector)}
}

func externalIP(s *corev1.Service) string {
	var ips []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" {
			ips = append(ips, i.IP)
		} else {
			ips = append(ips, i.Hostname)
		}
	}
	ips = append(ips, s.Spec.ExternalIPs...)
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case len(ips) > 0:
		return strings.Join(ips, ",")
	case s.Spec.Type == corev1.ServiceTypeLoadBalancer:
		return "<pending>"
	}
	return "<none>"
}

func servicePorts(ports []corev1.ServicePort) string {
	var out []string
	for _, p := range ports {
		if p.NodePort != 0 {
			out = append(out, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			out = append(out, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return orNone(strings.Join(out, ","))
}

// family of a virtual address, in the words of Service.spec.ipFamilies.
func family(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
