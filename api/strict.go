package api

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxProblems bounds what is reported about one object: more helps nobody, and
// each costs a search for its line.
const maxProblems = 10

// problem is something that does not fit its shape.
type problem struct {
	field  string
	detail string
}

// checker walks an object beside its shape and gathers what does not fit.
type checker struct {
	problems []problem
}

// misfits are the places where a decoded tree does not fit a shape, in the order
// of the fields' names.
func misfits(tree map[string]any, s shape) []problem {
	var c checker
	c.object(nil, tree, s)
	return c.problems
}

func (c *checker) full() bool { return len(c.problems) >= maxProblems }

func (c *checker) add(p *field.Path, format string, args ...any) {
	if !c.full() {
		c.problems = append(c.problems, problem{p.String(), fmt.Sprintf(format, args...)})
	}
}

// value checks one value; null is the same as not written, as in Kubernetes.
func (c *checker) value(p *field.Path, v any, s shape) {
	if v == nil || c.full() {
		return
	}
	if s.form == anything {
		c.syntax(p, v, s)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		switch s.form {
		case object:
			c.object(p, v, s)
			return
		case mapping:
			c.mapping(p, v, s)
			return
		}
	case []any:
		if s.form == list {
			c.list(p, v, s)
			return
		}
	case string:
		c.word(p, v, s)
		return
	case bool:
		if s.form == boolean {
			return
		}
	case int64:
		if s.form == integer || s.form == number {
			c.between(p, float64(v), s)
			return
		}
	case float64:
		if s.form == number || s.form == integer && v == math.Trunc(v) {
			c.between(p, v, s)
			return
		}
	}
	c.add(p, "must be %s, not %s", belongs(s), describe(v))
}

// syntax lets a value that reads itself do so.
func (c *checker) syntax(p *field.Path, v any, s shape) {
	if s.parse == nil {
		return
	}
	if err := s.parse(v); err != nil {
		c.add(p, "%v", err)
	}
}

func (c *checker) mapping(p *field.Path, v map[string]any, s shape) {
	elem := s.elem()
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if _, err := strconv.ParseInt(k, 10, 64); s.keys && err != nil {
			c.add(p.Key(k), "must be a whole number, not the string %q", k)
			continue
		}
		c.value(p.Key(k), v[k], elem)
	}
}

func (c *checker) object(p *field.Path, v map[string]any, s shape) {
	fields := s.fields()
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if c.full() {
			return // misplaced is not cheap
		}
		f, ok := fields[k]
		switch {
		case ok:
		case slices.Contains(s.read, k):
			continue
		default:
			c.add(below(p, k), "%s", misplaced(k, fields))
			continue
		}
		c.value(below(p, k), v[k], f)
	}
	for _, names := range s.oneofs {
		written := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return v[n] == nil })
		if len(written) > 1 {
			c.add(p, "%s cannot stand together; keep one", strings.Join(written, " and "))
		}
	}
}

func (c *checker) list(p *field.Path, v []any, s shape) {
	elem := s.elem()
	for i, item := range v {
		if item == nil && elem.form != anything {
			c.add(p.Index(i), "must be %s, not empty; remove the dash or fill it in", belongs(elem))
			continue
		}
		c.value(p.Index(i), item, elem)
	}
}

// word checks a string, which for some numbers is a way to write them.
func (c *checker) word(p *field.Path, v string, s shape) {
	switch {
	case s.form == integer && s.quoted, s.form == number && (v == "NaN" || v == "Infinity" || v == "-Infinity"):
	case s.form != text:
		c.add(p, "must be %s, not %s", belongs(s), describe(v))
	case len(s.words) > 0 && !slices.Contains(s.words, v):
		c.add(p, "%s", notOneOf(v, s.words))
	default:
		c.syntax(p, v, s)
	}
}

// below is the path of a field of an object; the nil path is the whole object.
func below(p *field.Path, k string) *field.Path {
	if p == nil {
		return field.NewPath(k)
	}
	return p.Child(k)
}

func (c *checker) between(p *field.Path, v float64, s shape) {
	if s.form == integer && (v < s.lo || v > s.hi) {
		c.add(p, "%.0f is out of range, must be %.0f to %.0f", v, s.lo, s.hi)
	}
}

// misplaced explains an unknown field: a misspelling, or a field of one of its
// neighbours that lost its indentation.
func misplaced(k string, fields map[string]shape) string {
	names := slices.Collect(maps.Keys(fields))
	if suggest(k, names) == "" {
		var homes []string
		for name, f := range fields {
			if f.form != object {
				continue
			}
			if _, ok := f.fields()[k]; ok {
				homes = append(homes, name)
			}
		}
		if len(homes) == 1 {
			return fmt.Sprintf("unknown field %q; it belongs under %q", k, homes[0])
		}
	}
	return unknownField(k, names)
}

// notOneOf names the words that are allowed, and the one probably meant.
func notOneOf(v string, words []string) string {
	s := fmt.Sprintf("%q is not one of %s", v, strings.Join(words, ", "))
	if near := suggest(v, words); near != "" {
		s += fmt.Sprintf("; did you mean %s?", near)
	}
	return s
}

func belongs(s shape) string {
	if len(s.words) > 0 {
		return "one of " + strings.Join(s.words, ", ")
	}
	return s.form.String()
}

// describe is a value as an error shows it.
func describe(v any) string {
	const short = 40
	switch v := v.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		if len(v) > short {
			return fmt.Sprintf("the string %q...", v[:short])
		}
		return fmt.Sprintf("the string %q", v)
	case bool:
		return fmt.Sprintf("%t", v)
	}
	return fmt.Sprintf("%v", v)
}
