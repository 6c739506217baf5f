package envtest_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	rbac "k8s.io/api/rbac/v1"

	"hasp/cluster"
)

// request is a line of the audit log (audit.k8s.io/v1 Event).
type request struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Resource, Subresource, Name, Namespace, APIGroup string
	} `json:"objectRef"`
	RequestURI     string `json:"requestURI"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// audit compares what the ServiceAccount asked for with what it is granted: it
// was refused nothing, and has nothing that it does not use.
func (e *environment) audit() error {
	f, err := os.Open(e.auditLog())
	if err != nil {
		return err
	}
	defer f.Close()
	var all []request
	var errs []error
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		if r.ResponseStatus.Code == 403 {
			errs = append(errs, fmt.Errorf("refused: %s %s", r.Verb, r.RequestURI))
		}
		all = append(all, r)
	}
	if flag.Lookup("test.run").Value.String() != "" {
		return errors.Join(append(errs, lines.Err())...) // not all tests ran
	}
	g := cluster.Permissions()
	for _, rule := range slices.Concat(g.Cluster, g.Namespace) {
		for _, unused := range unusedOf(rule, all) {
			errs = append(errs, fmt.Errorf("granted and not used: %s", unused))
		}
	}
	return errors.Join(append(errs, lines.Err())...)
}

// unusedOf a rule are the verbs on its resources and names that no request had.
func unusedOf(rule rbac.PolicyRule, all []request) []string {
	var out []string
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, resource := range rule.Resources {
		for _, verb := range rule.Verbs {
			for _, name := range names {
				used := slices.ContainsFunc(all, func(r request) bool {
					asked := r.ObjectRef.Resource
					if r.ObjectRef.Subresource != "" {
						asked += "/" + r.ObjectRef.Subresource
					}
					// Informers read what is there by the watch itself, and list only
					// where a server cannot do that (before Kubernetes 1.35).
					asWanted := r.Verb == verb || verb == "list" && r.Verb == "watch"
					return asWanted && asked == resource && r.ObjectRef.APIGroup == rule.APIGroups[0] &&
						(name == "" || r.ObjectRef.Name == name || strings.Contains(r.RequestURI, "metadata.name%3D"+name))
				})
				if !used {
					out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s.%s %s", verb, resource, rule.APIGroups[0], name)))
				}
			}
		}
	}
	return out
}
