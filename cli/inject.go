package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/deploy"
	"hasp/inject"
	"hasp/source"
)

func newInject(e *env) *cobra.Command {
	var (
		files             []string
		config, namespace string
		output            string
	)
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Put sidecars into manifests, as the webhook does into pods",
		Long: `Read manifests and print them with a sidecar in every pod and template of pods
(Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job,
CronJob). Other kinds are printed as they are, Lists as their items; comments are
lost. No cluster is asked.

Pods that say sidecar.istio.io/inject: "false", and those of a Namespace among
the manifests that says istio-injection: disabled, get none. What is not injected
is said on standard error. A pod that has its sidecar is left alone.

Settings are those of the ConfigMap istio-sidecar-injector on a cluster:
  kubectl -n istio-system get configmap istio-sidecar-injector -o jsonpath={.data.values}
Without --config they are the chart's defaults.`,
		Example: `  hasp inject -f deployment.yaml | kubectl apply -f -
  hasp inject -f app/ --config values.yaml -o json
  kubectl create job once --image=busybox --dry-run=client -o yaml | hasp inject -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usageError{errors.New("hasp inject needs -f FILE, or -f - for standard input")}
			}
			if output != "yaml" && output != "json" {
				return usageError{fmt.Errorf("-o %q: it is yaml or json", output)}
			}
			cfg, err := injection(e, config)
			if err != nil {
				return err
			}
			for i, f := range files {
				if f != "-" {
					files[i] = absolute(e.Dir, f)
				}
			}
			objects, err := source.ReadManifests(e.In, files...)
			if err != nil {
				return err
			}
			trees, notes, err := inject.Manifests(objects, namespace, cfg)
			if err != nil {
				return err
			}
			for _, n := range notes {
				fmt.Fprintln(e.Err, "hasp:", n)
			}
			return printTrees(e.Out, trees, output)
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` or directory of manifests, - for standard input; may be repeated")
	cmd.Flags().StringVar(&config, "config", "", "YAML `FILE` of the settings")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", e.namespace(), "`NAMESPACE` of objects that name none")
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "`FORM` to print: yaml or json")
	offer(cmd, "output", "yaml", "json")
	return cmd
}

// injection are the settings of a file, or those of a chart without values.
func injection(e *env, file string) (inject.Config, error) {
	if file == "" {
		cfg := inject.DefaultConfig()
		version, err := deploy.Version()
		cfg.Image = "localhost:5000/hasp/hasp-proxy:" + version
		return cfg, err
	}
	b, err := os.ReadFile(absolute(e.Dir, file))
	if err != nil {
		return inject.Config{}, fmt.Errorf("read the settings: %w", err)
	}
	return inject.ParseConfig(file, b)
}

// printTrees prints one object as itself and several as kubectl does: YAML
// documents, or a List in JSON.
func printTrees(w io.Writer, trees []map[string]any, output string) error {
	if output == "yaml" {
		var objects []*unstructured.Unstructured
		for _, t := range trees {
			objects = append(objects, &unstructured.Unstructured{Object: t})
		}
		return printObjects(w, objects)
	}
	var v any = map[string]any{"apiVersion": "v1", "kind": "List", "items": trees}
	if len(trees) == 1 {
		v = trees[0]
	}
	b, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
