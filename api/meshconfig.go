package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	mesh "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MeshConfigName and MeshConfigKey say where mesh-wide settings live, as in
// Istio: ConfigMap "istio" of the root namespace, under "mesh".
const (
	MeshConfigName = "istio"
	MeshConfigKey  = "mesh"
)

// MeshConfigError is one thing wrong with mesh-wide settings.
type MeshConfigError struct {
	Line   int    // in the text of the settings, from 1
	Field  string // "outboundTrafficPolicy.mode"; empty when the text is not YAML
	Value  any
	Detail string
}

// Error is "mesh config line 3: outboundTrafficPolicy.mode: ...".
func (e *MeshConfigError) Error() string { return "mesh config " + e.where() + e.Detail }

func (e *MeshConfigError) where() string {
	s := fmt.Sprintf("line %d: ", e.Line)
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s
}

// DefaultMeshConfig is what holds when nobody has set anything.
func DefaultMeshConfig() *MeshConfig {
	return &MeshConfig{
		RootNamespace:        "istio-system",
		TrustDomain:          "cluster.local",
		EnableAutoMtls:       true,
		OutboundAllowAny:     true,
		MinTLS:               "1.3",
		AccessLogFile:        "/dev/stdout",
		AccessLogEncoding:    "TEXT",
		ConnectTimeoutMillis: 10_000,
		DrainMillis:          45_000,
	}
}

// ParseMeshConfig reads the text under "mesh" of ConfigMap "istio": Istio's
// MeshConfig (istio.mesh.v1alpha1) as YAML. What is not written keeps its
// default. A field that hasp does not support is an error, as is one that does
// not exist, and they say which it is. The error joins one [MeshConfigError] for
// each thing wrong.
func ParseMeshConfig(yaml string) (*MeshConfig, error) {
	if len(yaml) > MaxBytes {
		return nil, &MeshConfigError{Line: 1, Detail: fmt.Sprintf("%d bytes are too many; %d MiB are read", len(yaml), MaxBytes>>20)}
	}
	m := DefaultMeshConfig()
	doc, err := parse(chunk{text: []byte(yaml)})
	if err != nil {
		return nil, &MeshConfigError{Line: err.line, Detail: err.text}
	}
	if doc == nil {
		return m, nil
	}
	r := meshReader{doc: doc, config: m, settings: meshSettings()}
	r.object(nil, doc.tree, meshSchema())
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return m, nil
}

// meshSchema is the whole of Istio's MeshConfig, to tell what hasp does not
// support from what does not exist.
func meshSchema() shape {
	return shapeOfMessage((&mesh.MeshConfig{}).ProtoReflect().Descriptor())
}

// meshReader puts the settings of one text into a MeshConfig.
type meshReader struct {
	doc      *document
	config   *MeshConfig
	settings map[string]setting
	errs     []error
}

func (r *meshReader) fail(p *field.Path, v any, detail string) {
	if len(r.errs) < maxProblems {
		r.errs = append(r.errs, &MeshConfigError{
			Line:   r.doc.base + lineOf(r.doc.node, parsePath(p.String())),
			Field:  p.String(),
			Value:  v,
			Detail: detail,
		})
	}
}

// object reads the fields of an object of the settings, or the keys of a mapping;
// istio is its shape there.
func (r *meshReader) object(p *field.Path, tree map[string]any, istio shape) {
	var fields map[string]shape
	if istio.form == object {
		fields = istio.fields()
	}
	for _, k := range slices.Sorted(maps.Keys(tree)) {
		at := below(p, k)
		set, ours := r.settings[at.String()]
		known, theirs := fields[k]
		theirs = theirs || istio.form == mapping // which has any key
		switch {
		case !ours && !theirs:
			r.fail(at, tree[k], unknownField(k, r.supported(p)))
		case tree[k] == nil: // "key:" with nothing behind it keeps the default
		case ours:
			if detail := set(r.config, tree[k]); detail != "" {
				r.fail(at, tree[k], detail)
			}
		case len(r.supported(at)) == 0:
			r.fail(at, tree[k], fmt.Sprintf("hasp does not support meshConfig field %s yet; remove it", at))
		default:
			inner, ok := tree[k].(map[string]any)
			if !ok {
				r.fail(at, tree[k], "must be an object, not "+describe(tree[k]))
				continue
			}
			r.object(at, inner, known)
		}
	}
}

// supported are the names of the fields of an object that hasp supports.
func (r *meshReader) supported(p *field.Path) []string {
	prefix := ""
	if p != nil {
		prefix = p.String() + "."
	}
	names := map[string]bool{}
	for full := range r.settings {
		if rest, ok := strings.CutPrefix(full, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			names[name] = true
		}
	}
	return slices.Collect(maps.Keys(names))
}
