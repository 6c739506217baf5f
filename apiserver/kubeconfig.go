package apiserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// entry names the cluster, the user and the context in the kubeconfig.
const entry = "hasp"

// KubeconfigPath is where the kubeconfig of a data directory is.
func KubeconfigPath(dir string) string { return filepath.Join(dir, "kubeconfig") }

// writeKubeconfig points the kubeconfig at this server. What the user changed
// in it stays: other contexts, and the namespace of ours ("oc project").
func writeKubeconfig(path, url, namespace string, ca, cert, key []byte) error {
	c, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		c = clientcmdapi.NewConfig()
	} else if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	c.Clusters[entry] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: ca}
	c.AuthInfos[entry] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	if old := c.Contexts[entry]; old != nil && old.Namespace != "" {
		namespace = old.Namespace
	}
	c.Contexts[entry] = &clientcmdapi.Context{Cluster: entry, AuthInfo: entry, Namespace: namespace}
	if c.CurrentContext == "" {
		c.CurrentContext = entry
	}
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return save(path, b)
}

// save writes a secret file whole or not at all.
func save(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
