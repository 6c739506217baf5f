package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// lifetime of every certificate: longer than any test, no longer than a day's
// work with a developer's cluster.
const lifetime = 48 * time.Hour

// identity is a certificate of the cluster's own CA.
type identity struct {
	file   string // in pki, without .crt and .key
	name   string // who it is to Kubernetes, the common name
	groups []string
	hosts  []string // DNS names and addresses that it serves
	config bool     // with a kubeconfig, .conf
}

// identities of a cluster, as https://kubernetes.io/docs/setup/best-practices/certificates/
// names them.
func (l layout) identities() []identity {
	return []identity{
		{file: "apiserver", name: "kube-apiserver", hosts: []string{
			l.IPv4, l.IPv6, firstServiceIP, "127.0.0.1", "localhost",
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		{file: "apiserver-kubelet-client", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{file: "front-proxy-client", name: "front-proxy-client"},
		{file: "kubelet", name: "system:node:" + l.Name, groups: []string{"system:nodes"}, hosts: []string{l.Name, l.IPv4, l.IPv6}, config: true},
		{file: "admin", name: "kubernetes-admin", groups: []string{"system:masters"}, config: true},
		{file: "controller-manager", name: "system:kube-controller-manager", config: true},
		{file: "scheduler", name: "system:kube-scheduler", config: true},
		{file: "proxy", name: "system:kube-proxy", config: true},
	}
}

// writePKI makes the CA, its certificates, the key that signs ServiceAccount
// tokens, and the kubeconfigs.
func (l layout) writePKI() error {
	dir := filepath.Join(l.Dir, "pki")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kubernetes"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caKey, err := writePair(filepath.Join(dir, "ca"), ca, ca, nil)
	if err != nil {
		return err
	}
	if err := writeSigningKey(dir); err != nil {
		return err
	}
	for _, id := range l.identities() {
		file := filepath.Join(dir, id.file)
		if _, err := writePair(file, id.template(), ca, caKey); err != nil {
			return err
		}
		if !id.config {
			continue
		}
		if err := l.writeKubeconfig(file, filepath.Join(dir, "ca.crt")); err != nil {
			return err
		}
	}
	return nil
}

func (id identity) template() *x509.Certificate {
	c := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.name, Organization: id.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range id.hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	return c
}

// writePair makes a key and its certificate, file.key and file.crt. Without the
// issuer's key the certificate signs itself.
func writePair(file string, cert, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if issuerKey == nil {
		issuerKey = key
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	now := time.Now()
	cert.NotBefore, cert.NotAfter = now.Add(-time.Minute), now.Add(lifetime)
	der, err := x509.CreateCertificate(rand.Reader, cert, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", filepath.Base(file), err)
	}
	if err := writePEM(file+".crt", "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return key, writeKey(file+".key", key)
}

// writeSigningKey of ServiceAccount tokens, sa.key and sa.pub.
func writeSigningKey(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode a public key: %w", err)
	}
	if err := writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", pub); err != nil {
		return err
	}
	return writeKey(filepath.Join(dir, "sa.key"), key)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	return writePEM(file, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeKubeconfig file.conf of the identity in file.crt and file.key.
func (l layout) writeKubeconfig(file, ca string) error {
	config := clientcmdapi.Config{
		CurrentContext: "kube",
		Clusters:       map[string]*clientcmdapi.Cluster{"kube": {Server: "https://" + net.JoinHostPort(l.IPv4, "6443"), CertificateAuthority: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"kube": {ClientCertificate: file + ".crt", ClientKey: file + ".key"}},
		Contexts:       map[string]*clientcmdapi.Context{"kube": {Cluster: "kube", AuthInfo: "kube"}},
	}
	// One file that can be carried elsewhere.
	if err := clientcmdapi.FlattenConfig(&config); err != nil {
		return fmt.Errorf("embed the certificates of %s.conf: %w", filepath.Base(file), err)
	}
	if err := clientcmd.WriteToFile(config, file+".conf"); err != nil {
		return fmt.Errorf("write %s.conf: %w", filepath.Base(file), err)
	}
	return nil
}
