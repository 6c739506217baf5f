package api

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// shapeOfMessage reads a protocol buffer message as its JSON form is written in
// manifests: lowerCamelCase names only and enums by name only, as the
// CustomResourceDefinitions demand (protojson alone would take more).
func shapeOfMessage(m protoreflect.MessageDescriptor) shape {
	if s, ok := wellKnown(m); ok {
		return s
	}
	s := shape{form: object, fields: func() map[string]shape {
		fields := map[string]shape{}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			fields[f.JSONName()] = shapeOfField(f)
		}
		return fields
	}}
	for i := range m.Oneofs().Len() {
		o := m.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		var names []string
		for j := range o.Fields().Len() {
			names = append(names, o.Fields().Get(j).JSONName())
		}
		s.oneofs = append(s.oneofs, names)
	}
	return s
}

// wellKnown are the messages with a JSON form of their own.
func wellKnown(m protoreflect.MessageDescriptor) (shape, bool) {
	switch m.FullName() {
	case "google.protobuf.Duration":
		return shape{form: text, parse: parseDuration}, true
	case "google.protobuf.Timestamp", "google.protobuf.FieldMask":
		return shape{form: text}, true
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Any":
		return shape{form: anything}, true
	case "google.protobuf.BoolValue", "google.protobuf.StringValue", "google.protobuf.BytesValue",
		"google.protobuf.FloatValue", "google.protobuf.DoubleValue", "google.protobuf.Int32Value",
		"google.protobuf.Int64Value", "google.protobuf.UInt32Value", "google.protobuf.UInt64Value":
		s := shapeOfSingle(m.Fields().ByName("value"))
		s.quoted = s.form == integer // int-or-string in the CRDs
		return s, true
	}
	return shape{}, false
}

// parseDuration reads a duration as Istio does: the Go form, "1h30m" too.
func parseDuration(v any) error {
	s, _ := v.(string)
	if _, err := time.ParseDuration(s); err != nil {
		return fmt.Errorf("must be a duration such as 10s or 500ms, not %s", describe(v))
	}
	return nil
}

func shapeOfField(f protoreflect.FieldDescriptor) shape {
	switch {
	case f.IsMap():
		return shape{
			form: mapping,
			keys: shapeOfSingle(f.MapKey()).form == integer,
			elem: func() shape { return shapeOfSingle(f.MapValue()) },
		}
	case f.IsList():
		return shape{form: list, elem: func() shape { return shapeOfSingle(f) }}
	}
	return shapeOfSingle(f)
}

// shapeOfSingle is the shape of one value of a field, repeated or not.
func shapeOfSingle(f protoreflect.FieldDescriptor) shape {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return shapeOfMessage(f.Message())
	case protoreflect.EnumKind:
		return shape{form: text, words: enumNames(f.Enum())}
	case protoreflect.StringKind, protoreflect.BytesKind:
		return shape{form: text}
	case protoreflect.BoolKind:
		return shape{form: boolean}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return integers(32, true)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return integers(32, false)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		s := integers(64, true)
		s.quoted = true // as protojson writes 64 bits
		return s
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		s := integers(64, false)
		s.quoted = true
		return s
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return shape{form: number}
	}
	return shape{form: anything}
}

func enumNames(e protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range e.Values().Len() {
		names = append(names, string(e.Values().Get(i).Name()))
	}
	return names
}
