package control

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/compile"
	"hasp/source"
	"hasp/truth"
)

// maxCandidate bounds the manifests of a what-if, in bytes.
const maxCandidate = 4 << 20

// WhatIf says what would become of every client that is known if manifests were
// applied or, with remove, deleted. An object without a namespace is in
// namespace, as kubectl -n would put it.
func (c *Control) WhatIf(manifests io.Reader, namespace string, remove bool) (truth.Answer, error) {
	s := c.current.Load()
	if s == nil {
		return truth.Answer{}, errUnread
	}
	objects, err := source.ReadCandidate(manifests, "-")
	if err != nil {
		return truth.Answer{}, err
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := time.Now()
	candidate, said, err := s.read().Apply(objects, namespace, remove, now)
	if err != nil {
		return truth.Answer{}, err
	}
	after, problems := source.Build(candidate, c.cfg.TrustDomain)
	after.Generation = s.world.Generation + 1
	a := truth.WhatIf(s.world, after, c.facts.at(s.world.Generation, now))
	for _, o := range said {
		a.Objects = append(a.Objects, o.String())
	}
	for _, p := range problems {
		if !slices.Contains(s.problems, p) {
			a.Warnings = append(a.Warnings, "not used: "+p.String())
		}
	}
	for _, d := range unservedBy(after, compile.New(after)) {
		if !slices.Contains(s.unserved, d) {
			a.Warnings = append(a.Warnings, "not served: "+d.String())
		}
	}
	return a, nil
}

func (c *Control) whatIf(r *http.Request) (any, error) {
	a, err := c.WhatIf(http.MaxBytesReader(nil, r.Body, maxCandidate), r.URL.Query().Get("namespace"), r.URL.Query().Get("delete") == "true")
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &viewError{http.StatusRequestEntityTooLarge, "the manifests are longer than 4 MiB; ask about fewer at a time"}
	case err != nil:
		return nil, &viewError{http.StatusBadRequest, err.Error()}
	}
	return a, nil
}
