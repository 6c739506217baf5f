package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/registry/rest"
)

// table prints objects of a kind in the columns kubectl users know.
type table struct{ kind anyKind }

var _ rest.TableConvertor = table{}

func (t table) ConvertToTable(_ context.Context, o, opts runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	add := func(o runtime.Object) error {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: t.kind.cells(o), Object: runtime.RawExtension{Object: o}})
		return nil
	}
	if meta.IsListType(o) {
		if err := meta.EachListItem(o, add); err != nil {
			return nil, err
		}
	} else {
		add(o) // never fails
	}
	if m, err := meta.ListAccessor(o); err == nil {
		out.ResourceVersion, out.Continue, out.RemainingItemCount = m.GetResourceVersion(), m.GetContinue(), m.GetRemainingItemCount()
	} else if m, err := meta.CommonAccessor(o); err == nil {
		out.ResourceVersion = m.GetResourceVersion()
	}
	if o, ok := opts.(*metav1.TableOptions); !ok || !o.NoHeaders {
		out.ColumnDefinitions = t.kind.info().columns
		if out.ColumnDefinitions == nil {
			out.ColumnDefinitions = columns("Name", "Age")
		}
	}
	return out, nil
}

// columns makes string columns of names; those after "|" are for -o wide only.
func columns(names ...string) []metav1.TableColumnDefinition {
	var out []metav1.TableColumnDefinition
	var wide int32
	for _, n := range names {
		if n == "|" {
			wide = 1
			continue
		}
		c := metav1.TableColumnDefinition{Name: n, Type: "string", Priority: wide}
		if n == "Name" {
			c.Format = "name"
		}
		out = append(out, c)
	}
	return out
}

// age is the AGE column.
func age(o runtime.Object) string { return since(accessor(o).GetCreationTimestamp()) }

func since(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// orNone is how kubectl prints an empty cell.
func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

// selectorText is a label selector as KEY=VALUE,KEY=VALUE.
func selectorText(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, fmt.Sprintf("%s=%s", k, v))
	}
	slices.Sort(out)
	return orNone(strings.Join(out, ","))
}
