package node

import (
	"maps"
	"path/filepath"
	"slices"
)

// programs that the one program of Kubernetes is.
var programs = []string{
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
	"kubectl", "oc", "helm",
}

// component is a program that runs as long as the node does.
type component struct {
	name string // of its log
	argv []string
}

// foundation is what must be there before anything can be asked.
func (l layout) foundation() []component {
	pki := func(name string) string { return l.path("pki", name) }
	const etcd, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	registry := []string{filepath.Join(l.Bin, "registry"), "-listen", l.Registry}
	if l.Images != "" {
		registry = append(registry, "-archives", l.Images)
	}
	registry = append(registry,
		pauseImage+"="+filepath.Join(l.Bin, "pause"),
		coreDNSImage+"="+filepath.Join(l.Bin, "coredns"),
	)
	for _, ref := range slices.Sorted(maps.Keys(l.Programs)) {
		registry = append(registry, ref+"="+l.Programs[ref])
	}
	return []component{
		{"etcd", []string{
			l.path("bin/etcd"), "--data-dir=" + l.path("etcd"), "--unsafe-no-fsync",
			"--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=default=" + peer,
		}},
		{"kube-apiserver", []string{
			l.path("bin/kube-apiserver"), "--etcd-servers=" + etcd,
			"--advertise-address=" + l.IPv4, "--secure-port=6443",
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			// It must not depend on names that only the cluster's DNS knows.
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-certificate-authority=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
			"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
			"--requestheader-client-ca-file=" + pki("ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
			"--proxy-client-key-file=" + pki("front-proxy-client.key"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
			"--service-cluster-ip-range=" + l.ServiceCIDRs,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true", // a CNI plugin's installer may ask for it
			"--audit-policy-file=" + l.path("etc/audit.yaml"), "--audit-log-path=" + l.path("audit.log"),
		}},
		{"containerd", []string{"containerd", "--config", l.path("etc/containerd.toml")}},
		{"registry", registry},
	}
}

// workers ask the API server, which is there.
func (l layout) workers() []component {
	conf := func(name string) string { return l.path("pki", name+".conf") }
	as := func(program, name string, args ...string) component {
		return component{program, append([]string{
			l.path("bin", program), "--kubeconfig=" + conf(name),
			"--authentication-kubeconfig=" + conf(name), "--authorization-kubeconfig=" + conf(name),
			"--bind-address=127.0.0.1", "--leader-elect=false",
			"--kube-api-qps=200", "--kube-api-burst=400", // else it waits for itself at the start
		}, args...)}
	}
	return []component{
		as("kube-controller-manager", "controller-manager",
			"--root-ca-file="+l.path("pki/ca.crt"),
			"--service-account-private-key-file="+l.path("pki/sa.key"), "--use-service-account-credentials",
			"--cluster-signing-cert-file="+l.path("pki/ca.crt"), "--cluster-signing-key-file="+l.path("pki/ca.key"),
			"--allocate-node-cidrs", "--cluster-cidr="+l.PodCIDRs, "--service-cluster-ip-range="+l.ServiceCIDRs),
		as("kube-scheduler", "scheduler"),
		l.kubelet(),
		{"kube-proxy", []string{l.path("bin/kube-proxy"), "--config=" + l.path("etc/proxy.yaml"), "--hostname-override=" + l.Name}},
	}
}

func (l layout) kubelet() component {
	return component{"kubelet", []string{
		l.path("bin/kubelet"), "--kubeconfig=" + l.path("pki/kubelet.conf"), "--config=" + l.path("etc/kubelet.yaml"),
		"--hostname-override=" + l.Name, "--node-ip=" + l.IPv4 + "," + l.IPv6, "--root-dir=" + l.path("kubelet"),
	}}
}
