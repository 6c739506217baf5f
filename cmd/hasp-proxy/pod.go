package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"hasp/mesh"
)

const podUsage = `hasp-proxy %[1]s is the %[2]s of a pod on Kubernetes. Who the pod is comes from
the environment, where the downward API puts it: POD_NAME (metadata.name),
POD_NAMESPACE (metadata.namespace) and SERVICE_ACCOUNT (spec.serviceAccountName).

  hasp-proxy %[1]s --trust-domain=cluster.local --log-level=debug

Certificates come from the control plane, or from cert-manager's istio-csr:

  hasp-proxy %[1]s --ca=cert-manager-istio-csr.cert-manager.svc:443

It starts without the files and without the control plane, and is not ready
(503 at :15021/healthz/ready) until it has a certificate and a configuration.

Flags:
`

// podNames is what the downward API says of the pod.
type podNames struct{ Name, Namespace, Account string }

func (p podNames) check() error {
	for _, n := range []struct{ variable, value, field string }{
		{"POD_NAME", p.Name, "metadata.name"},
		{"POD_NAMESPACE", p.Namespace, "metadata.namespace"},
		{"SERVICE_ACCOUNT", p.Account, "spec.serviceAccountName"},
	} {
		if n.value == "" {
			return fmt.Errorf("%s is not set: the container needs an env entry of that name with the fieldRef %s", n.variable, n.field)
		}
	}
	return nil
}

// parsePod makes a bootstrap of flags and names.
func parsePod(role string, args []string, names podNames, out io.Writer) (command, error) {
	what := map[string]string{"sidecar": "sidecar", "gateway": "ingress gateway"}[role]
	f := newFlags("hasp-proxy "+role, fmt.Sprintf(podUsage, role, what), out)
	var c command
	b := &mesh.Bootstrap{Role: mesh.Role(role)}
	var trustDomain, probes string
	var lifetime time.Duration
	f.StringVar(&b.ControlPlane, "control-plane", "istiod.istio-system.svc:15012", "`HOST:PORT` of the control plane")
	f.StringVar(&trustDomain, "trust-domain", "cluster.local", "SPIFFE trust `domain` of the mesh")
	f.StringVar(&b.ControlPlaneID, "control-plane-id", "", "SPIFFE `ID` that the control plane presents; by default that of the account istiod in istio-system")
	f.StringVar(&b.CA, "ca", "", "`HOST:PORT` of the certificate service, when the control plane is not it")
	f.StringVar(&b.CAName, "ca-name", "", "DNS `name` that the certificate service at --ca presents; by default its host")
	f.StringVar(&b.TokenFile, "token-file", "/var/run/secrets/tokens/istio-token", "projected ServiceAccount token, read anew for each use")
	f.StringVar(&b.RootsFile, "roots-file", "/var/run/secrets/istio/root-cert.pem", "PEM `file` of what signs the control plane and the workloads, followed as it changes")
	f.DurationVar(&lifetime, "cert-lifetime", 0, "lifetime asked for certificates; 0 leaves it to the certificate service")
	if role == "sidecar" {
		f.StringVar(&probes, "probes", "", "the kubelet's probes of the pod as `JSON`, as in\n"+`[{"kind":"http","port":8080,"path":"/healthz"}]`)
	}
	c.options.flags(f)
	if err := f.parse(args); err != nil {
		return c, err
	}
	if err := errors.Join(names.check(), c.options.check()); err != nil {
		return c, f.fail(err)
	}
	b.Node = names.Namespace + "/" + names.Name
	b.Identity = mesh.Identity(trustDomain, names.Namespace, names.Account)
	if b.ControlPlaneID == "" {
		b.ControlPlaneID = mesh.Identity(trustDomain, "istio-system", "istiod")
	}
	b.CertLifetime = int(lifetime / time.Second)
	if err := address("--control-plane", b.ControlPlane, nil); err != nil {
		return c, f.fail(err)
	}
	if b.CA != "" {
		if err := address("--ca", b.CA, &b.CAName); err != nil {
			return c, f.fail(err)
		}
	}
	var err error
	if b.Probes, err = parseProbes(probes); err != nil {
		return c, f.fail(err)
	}
	if err := checkBootstrap(b); err != nil {
		return c, f.fail(err)
	}
	c.boot = b
	return c, nil
}

// address checks a flag's HOST:PORT, and gives its host to a name that is empty.
func address(flag, value string, name *string) error {
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%s %q: it is HOST:PORT", flag, value)
	}
	if name != nil && *name == "" {
		*name = host
	}
	return nil
}
