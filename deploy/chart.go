// Package deploy is the Helm chart of directory hasp as a value: the same files
// helm reads, embedded and rendered by helm's own engine. [Render] gives the
// objects that "helm template" prints, in the order to apply them, with the
// namespace they live in; hasp manifest, install, check and uninstall are built
// on it.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// Namespace is where hasp lives. Identities and the proxies' defaults know the
// name, so the chart accepts no other.
const Namespace = "istio-system"

// The labels by which hasp's objects are found again (recommended labels of
// Kubernetes).
const (
	InstanceLabel  = "app.kubernetes.io/instance"
	ManagedByLabel = "app.kubernetes.io/managed-by"
	PartOfLabel    = "app.kubernetes.io/part-of"
	VersionLabel   = "app.kubernetes.io/version"
	chartLabel     = "helm.sh/chart"
)

// all: the helpers' file starts with an underscore.
//
//go:embed all:hasp
var files embed.FS

// load reads the embedded chart as helm reads the directory.
func load() (*chart.Chart, error) {
	var list []*archive.BufferedFile
	err := fs.WalkDir(files, "hasp", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		list = append(list, &archive.BufferedFile{Name: strings.TrimPrefix(path, "hasp/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, err
	}
	c, err := loader.LoadFiles(list)
	if err != nil {
		return nil, fmt.Errorf("deploy: read the chart: %w", err)
	}
	return c, nil
}

// Version is the chart's appVersion, which tags its images.
func Version() (string, error) {
	c, err := load()
	if err != nil {
		return "", err
	}
	return c.Metadata.AppVersion, nil
}

// DefaultValues is the chart's values.yaml, comments and all.
func DefaultValues() (string, error) {
	b, err := files.ReadFile("hasp/values.yaml")
	return string(b), err
}
