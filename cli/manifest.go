package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"hasp/api"
	"hasp/deploy"
	"hasp/inject"
)

// chartFlags are what every command takes that renders the chart.
type chartFlags struct {
	files []string
	set   []string
}

func (f *chartFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "values", "f", nil, "YAML `FILE` of values over the chart's own, - for standard input; may be repeated")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "one value over those of files, `KEY=VALUE` as helm has it; may be repeated")
}

// render is the installation these values ask for.
func (f *chartFlags) render(e *env) ([]*unstructured.Unstructured, error) {
	var texts []string
	for _, name := range f.files {
		text, err := readValues(e, name)
		if err != nil {
			return nil, err
		}
		if _, err := deploy.Values([]string{string(text)}, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		texts = append(texts, string(text))
	}
	values, err := deploy.Values(texts, f.set)
	if err != nil {
		return nil, err
	}
	objects, err := deploy.Render(deploy.Options{Values: values})
	if err != nil {
		return nil, fmt.Errorf("%w\nhasp manifest --values-file prints the values there are", err)
	}
	return objects, checkSettings(objects)
}

// checkSettings reads the ConfigMaps of an installation as its control plane
// will, which would only log what it cannot use.
func checkSettings(objects []*unstructured.Unstructured) error {
	settings := map[string]map[string]string{}
	for _, u := range objects {
		if u.GetKind() == "ConfigMap" {
			settings[u.GetName()], _, _ = unstructured.NestedStringMap(u.Object, "data")
		}
	}
	if _, err := api.ParseMeshConfig(settings[api.MeshConfigName][api.MeshConfigKey]); err != nil {
		return valuesError("meshConfig", err)
	}
	_, err := inject.ParseConfig("injection", []byte(settings[inject.ConfigMapName][inject.ConfigMapKey]))
	return err
}

// valuesError names what is wrong with settings by their place in the values
// instead of the line of a ConfigMap that is not there yet.
func valuesError(at string, err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for i, err := range all {
		var one *api.MeshConfigError
		if errors.As(err, &one) {
			all[i] = fmt.Errorf("values: %s.%s: %s", at, one.Field, one.Detail)
		}
	}
	return errors.Join(all...)
}

func readValues(e *env, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(e.In)
	}
	b, err := os.ReadFile(absolute(e.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("read values: %w", err)
	}
	return b, nil
}

func newManifest(e *env) *cobra.Command {
	var chart chartFlags
	var defaults bool
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Print what hasp install applies to a cluster",
		Long: `Print the objects of an installation on Kubernetes or OpenShift as YAML, in the
order to apply them: what the Helm chart gives for the same values, and the
namespace istio-system. No cluster is asked.`,
		Example: `  hasp manifest | kubectl apply --server-side -f -
  hasp manifest -f values.yaml --set gateway.enabled=false
  hasp manifest --values-file > values.yaml    the values there are, with their defaults`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults {
				text, err := deploy.DefaultValues()
				if err != nil {
					return err
				}
				_, err = io.WriteString(e.Out, text)
				return err
			}
			objects, err := chart.render(e)
			if err != nil {
				return err
			}
			return printObjects(e.Out, objects)
		},
	}
	chart.register(cmd)
	cmd.Flags().BoolVar(&defaults, "values-file", false, "print the chart's values and what they mean instead")
	return cmd
}

func printObjects(w io.Writer, objects []*unstructured.Unstructured) error {
	for _, u := range objects {
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}
