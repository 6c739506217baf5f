package apiserver

import (
	"reflect"
	"strings"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// reflector writes OpenAPI definitions of Go types from their fields, their
// tags and their own doc strings.
type reflector struct {
	defs map[string]common.OpenAPIDefinition
	ref  common.ReferenceCallback
}

// mapKeys are the lists whose items need two fields to be told apart; the Go
// tags know only the first.
var mapKeys = map[string][]any{
	"containerPort": {"containerPort", "protocol"},
	"port":          {"port", "protocol"},
}

func (r reflector) add(object any) { r.define(reflect.TypeOf(object).Elem()) }

// define adds a struct's definition, and those it needs, and returns its name.
func (r reflector) define(t reflect.Type) string {
	zero := reflect.New(t)
	name := util.GetCanonicalTypeName(zero.Interface())
	if _, ok := r.defs[name]; ok {
		return name
	}
	// Quantity, IntOrString and Time say themselves what they look like.
	if s, ok := zero.Interface().(interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}); ok {
		r.defs[name] = common.OpenAPIDefinition{Schema: spec.Schema{SchemaProps: spec.SchemaProps{Type: s.OpenAPISchemaType(), Format: s.OpenAPISchemaFormat()}}}
		return name
	}
	d := common.OpenAPIDefinition{Schema: spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{}}}}
	r.defs[name] = d // before its fields: types refer to themselves
	docs := map[string]string{}
	if s, ok := zero.Elem().Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		docs = s.SwaggerDoc()
	}
	d.Schema.Description = docs[""]
	deps := map[string]bool{}
	r.fields(t, docs, d.Schema.Properties, deps)
	for n := range deps {
		d.Dependencies = append(d.Dependencies, n)
	}
	r.defs[name] = d
	return name
}

func (r reflector) fields(t reflect.Type, docs map[string]string, props map[string]spec.Schema, deps map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			r.fields(f.Type, docs, props, deps)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		s := r.schema(f.Type, deps)
		s.Description = docs[name]
		if name == "protocol" {
			s.Default = "TCP" // it is part of a list's key, which must not be missing
		}
		if key := f.Tag.Get("patchMergeKey"); key != "" && f.Type.Elem().Kind() == reflect.Struct {
			s.Extensions = mergeByKey(key)
		}
		props[name] = s
	}
}

func mergeByKey(key string) spec.Extensions {
	keys := mapKeys[key]
	if keys == nil {
		keys = []any{key}
	}
	return spec.Extensions{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
		"x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": "merge"}
}

func (r reflector) schema(t reflect.Type, deps map[string]bool) spec.Schema {
	simple := func(typ, format string) spec.Schema {
		return spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{typ}, Format: format}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return r.schema(t.Elem(), deps)
	case reflect.String:
		return simple("string", "")
	case reflect.Bool:
		return simple("boolean", "")
	case reflect.Int, reflect.Int64:
		return simple("integer", "int64")
	case reflect.Int32, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		return simple("integer", "int32")
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return simple("string", "byte")
		}
		e, s := r.schema(t.Elem(), deps), simple("array", "")
		s.Items = &spec.SchemaOrArray{Schema: &e}
		return s
	case reflect.Map:
		e, s := r.schema(t.Elem(), deps), simple("object", "")
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &e}
		return s
	case reflect.Struct:
		n := r.define(t)
		deps[n] = true
		return spec.Schema{SchemaProps: spec.SchemaProps{Ref: r.ref(n)}}
	}
	return spec.Schema{}
}
