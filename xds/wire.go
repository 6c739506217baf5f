package xds

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// message is an Envoy message with the validation rules of its .proto file.
type message interface {
	proto.Message
	ValidateAll() error
}

// pack validates a message and marshals it, the same message to the same bytes.
func pack(m message) (*anypb.Any, error) {
	if err := m.ValidateAll(); err != nil {
		return nil, err
	}
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return out, nil
}

// unpack is the reverse: the type must be that of into, and the content valid.
func unpack(a *anypb.Any, into message) error {
	if !a.MessageIs(into) {
		return fmt.Errorf("type %q, want %s", a.GetTypeUrl(), into.ProtoReflect().Descriptor().FullName())
	}
	if err := a.UnmarshalTo(into); err != nil {
		return err
	}
	return into.ValidateAll()
}

// only refuses a message that sets a field other than the given ones. Every
// message that Decode takes apart goes through it, so a field that nobody here
// acts on is an error and not a silence.
func only(m proto.Message, fields ...protoreflect.Name) error {
	r := m.ProtoReflect()
	if !r.IsValid() {
		return nil // not there at all
	}
	var bad []string
	r.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !slices.Contains(fields, fd.Name()) {
			bad = append(bad, string(fd.Name()))
		}
		return true
	})
	if len(bad) > 0 {
		return fmt.Errorf("field %s is not supported", slices.Min(bad))
	}
	if u := r.GetUnknown(); len(u) > 0 {
		return fmt.Errorf("%s has a field this version does not know", r.Descriptor().Name())
	}
	return nil
}
