// Package check looks whether a cluster can take hasp, and whether the hasp in
// it is well: hasp check. [Run] asks everything and gives a [Result] for each
// question, with a hint for each that is not well; it changes nothing, since
// what it lets the API server do is a dry run.
package check

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"hasp/cluster"
	"hasp/deploy"
)

// Status of one question.
type Status string

const (
	OK      Status = "ok"
	Warning Status = "warning" // works, but look at it
	Failed  Status = "failed"
)

// Result is the answer to one question.
type Result struct {
	Section string `json:"section"`
	// Name is what is asked, as a statement that is true when all is well.
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found, Hint the way out.
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Config is what a run asks with.
type Config struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// Objects are those of the installation that is there or would be, as
	// deploy.Render gives them.
	Objects []*unstructured.Unstructured
	// Version of this program's chart.
	Version string
	// Before asks what must hold before an installation even when there is one.
	Before bool
	// ControlPlane asks a pod of the control plane for its status.
	ControlPlane func(ctx context.Context, pod string) (cluster.Status, error)
}

// question is asked once a run. A Result without a status is left out: it has
// nothing to say here.
type question struct {
	section, name string
	ask           func(context.Context) Result
}

// Run asks what suits: before an installation whether one would work, after it
// whether it works. A cluster that does not answer, or not to this user, is a
// Result that failed; the error is the context's.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	found, err := (&deploy.Cluster{Client: cfg.Dynamic}).Find(ctx)
	c := &checker{Config: cfg, installed: found}
	questions := c.aboutCluster()
	switch {
	case apierrors.IsForbidden(err):
		questions = append(questions, c.aboutSeeing(err)...)
	case err != nil:
		questions = []question{{clusterSection, "the API server answers", func(context.Context) Result { return failed(err, unreachable) }}}
	case found.By == "" || found.By == deploy.ByOther || cfg.Before:
		questions = append(questions, c.aboutInstalling()...)
	default:
		questions = append(questions, c.aboutInstallation()...)
		questions = append(questions, c.aboutPods()...)
	}
	var out []Result
	for _, q := range questions {
		r := q.ask(ctx)
		if r.Status == "" {
			continue
		}
		r.Section, r.Name = q.section, q.name
		out = append(out, r)
	}
	return out, ctx.Err()
}

// Well reports whether nothing failed.
func Well(results []Result) bool {
	for _, r := range results {
		if r.Status == Failed {
			return false
		}
	}
	return true
}

// checker is one run.
type checker struct {
	Config
	installed deploy.Installed
}

func ok(detail string) Result              { return Result{Status: OK, Detail: detail} }
func warn(detail, hint string) Result      { return Result{Status: Warning, Detail: detail, Hint: hint} }
func fail(detail, hint string) Result      { return Result{Status: Failed, Detail: detail, Hint: hint} }
func failed(err error, hint string) Result { return fail(err.Error(), hint) }
