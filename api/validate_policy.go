package api

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DefaultPolicyName is the name of the Policy of a whole namespace and of the
// only MeshPolicy that is read.
const DefaultPolicyName = "default"

// validatePolicy applies the rules of Istio 1.4 (pkg/config/validation), in its
// words, two spaces and all; what follows a semicolon is the way out.
func validatePolicy(p *Policy) field.ErrorList {
	var errs field.ErrorList
	name, spec := field.NewPath("metadata", "name"), field.NewPath("spec")
	switch {
	case len(p.Spec.Targets) == 0 && p.Name != DefaultPolicyName:
		errs = append(errs, field.Invalid(name, p.Name, fmt.Sprintf(
			"authentication policy with no target rules  must be named %q, found %q; rename it, or list the services it is for under spec.targets", DefaultPolicyName, p.Name)))
	case len(p.Spec.Targets) > 0 && p.Name == DefaultPolicyName:
		errs = append(errs, field.Forbidden(spec.Child("targets"), fmt.Sprintf(
			"authentication policy with name %q must not have any target rules; remove them, or rename the policy", DefaultPolicyName)))
	}
	for i, t := range p.Spec.Targets {
		errs = append(errs, validateTarget(spec.Child("targets").Index(i), t)...)
	}
	return append(errs, validatePolicySpec(spec, p.Spec)...)
}

func validateMeshPolicy(p *MeshPolicy) field.ErrorList {
	var errs field.ErrorList
	if p.Name != DefaultPolicyName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), p.Name, fmt.Sprintf(
			"cluster-scoped authentication policy name must be %q, found %q; only that one is read", DefaultPolicyName, p.Name)))
	}
	spec := field.NewPath("spec")
	if len(p.Spec.Targets) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("targets"),
			"cluster-scoped authentication policy must not have targets; put them in a Policy of the services' namespace"))
	}
	return append(errs, validatePolicySpec(spec, p.Spec)...)
}

func validateTarget(p *field.Path, t Target) field.ErrorList {
	var errs field.ErrorList
	if len(validation.IsDNS1123Label(t.Name)) > 0 {
		errs = append(errs, field.Invalid(p.Child("name"), t.Name, fmt.Sprintf(
			"target name %q must be a valid label; write the short name of a Service in the policy's namespace", t.Name)))
	}
	for i, port := range t.Ports {
		at := p.Child("ports").Index(i)
		switch {
		case port.Number != 0 && port.Name != "":
			errs = append(errs, field.Forbidden(at, "number and name cannot stand together; keep one"))
		case port.Name != "":
			if len(validation.IsDNS1123Label(port.Name)) > 0 {
				errs = append(errs, field.Invalid(at.Child("name"), port.Name, fmt.Sprintf("port name %q must be a valid label; write the name of a port of the Service", port.Name)))
			}
		case port.Number < 1 || port.Number > 65535:
			errs = append(errs, field.Invalid(at.Child("number"), port.Number, fmt.Sprintf(
				"port number %d must be in the range 1..65535; write the number or the name of a port of the Service", port.Number)))
		}
	}
	return errs
}

func validatePolicySpec(spec *field.Path, s PolicySpec) field.ErrorList {
	var errs field.ErrorList
	for i, m := range s.Peers {
		errs = append(errs, validatePeer(spec.Child("peers").Index(i), m)...)
	}
	issuers := map[string]bool{}
	for i, o := range s.Origins {
		at := spec.Child("origins").Index(i)
		if o.JWT == nil {
			errs = append(errs, field.Required(at.Child("jwt"), "origin cannot be empty; write a jwt with an issuer"))
			continue
		}
		errs = append(errs, validateJWT(at.Child("jwt"), o.JWT)...)
		if issuers[o.JWT.Issuer] {
			errs = append(errs, field.Invalid(at.Child("jwt", "issuer"), o.JWT.Issuer, fmt.Sprintf("jwt with issuer %q already defined; keep one", o.JWT.Issuer)))
		}
		issuers[o.JWT.Issuer] = true
	}
	switch s.PrincipalBinding {
	case "", "USE_PEER", "USE_ORIGIN":
	default:
		errs = append(errs, field.NotSupported(spec.Child("principalBinding"), s.PrincipalBinding, []string{"USE_PEER", "USE_ORIGIN"}))
	}
	return errs
}

// validatePeer refuses a peer that names no method. Istio took it for "no mutual
// TLS"; but it is also what kubectl's patches make of "mtls:" with null, which
// means STRICT, so letting it pass would open what was to be closed.
func validatePeer(p *field.Path, m PeerMethod) field.ErrorList {
	var errs field.ErrorList
	switch {
	case m.HasJWT:
		errs = append(errs, field.Forbidden(p.Child("jwt"), "jwt is not available for peers; put it under origins"))
	case !m.HasMTLS:
		errs = append(errs, field.Required(p, `a peer needs a method; write "mtls: {}" for STRICT, or remove the peer to turn mutual TLS off`))
	}
	switch m.MTLSMode {
	case "", MTLSStrict, MTLSPermissive:
	default:
		errs = append(errs, field.NotSupported(p.Child("mtls", "mode"), m.MTLSMode, []string{MTLSStrict, MTLSPermissive}))
	}
	return errs
}

func validateJWT(p *field.Path, j *JWT) field.ErrorList {
	var errs field.ErrorList
	if j.Issuer == "" {
		errs = append(errs, field.Required(p.Child("issuer"), "issuer must be set; it is the iss claim of the tokens"))
	}
	nonEmpty := func(name string, values []string, message string) {
		for i, v := range values {
			if v == "" {
				errs = append(errs, field.Invalid(p.Child(name).Index(i), v, message))
			}
		}
	}
	nonEmpty("audiences", j.Audiences, "audience must be non-empty string")
	nonEmpty("jwtHeaders", j.JwtHeaders, "location header must be non-empty string")
	nonEmpty("jwtParams", j.JwtParams, "location query must be non-empty string")
	if j.Jwks != "" && j.JwksURI != "" {
		errs = append(errs, field.Forbidden(p.Child("jwks"), "jwks and jwksUri cannot stand together; keep one"))
	}
	return errs
}
