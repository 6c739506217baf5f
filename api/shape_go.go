package api

import (
	"encoding/json"
	"reflect"
	"strings"
)

// shapeOfGo reads a Go type as encoding/json does.
func shapeOfGo(t reflect.Type) shape {
	if t.Kind() == reflect.Pointer {
		return shapeOf(t.Elem())
	}
	// Quantities, times, int-or-string and raw extensions read themselves.
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return shape{form: anything, parse: func(v any) error { return readAs(t, v) }}
	}
	switch t.Kind() {
	case reflect.Struct:
		return shape{form: object, fields: func() map[string]shape { return structFields(t) }}
	case reflect.Map:
		return shape{form: mapping, elem: func() shape { return shapeOf(t.Elem()) }}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return shape{form: text, parse: func(v any) error { return readAs(t, v) }} // base64
		}
		return shape{form: list, elem: func() shape { return shapeOf(t.Elem()) }}
	case reflect.String:
		return shape{form: text}
	case reflect.Bool:
		return shape{form: boolean}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return integers(t.Bits(), true)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return integers(t.Bits(), false)
	case reflect.Float32, reflect.Float64:
		return shape{form: number}
	}
	return shape{form: anything}
}

// readAs tries to decode one value into its Go type.
func readAs(t reflect.Type, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return cause(json.Unmarshal(b, reflect.New(t).Interface()))
}

// structFields are the JSON fields of a struct, those of inlined structs too.
func structFields(t reflect.Type) map[string]shape {
	fields := map[string]shape{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			for k, v := range structFields(inner) {
				fields[k] = v
			}
		case name == "":
			fields[f.Name] = shapeOf(f.Type)
		default:
			fields[name] = shapeOf(f.Type)
		}
	}
	return fields
}
