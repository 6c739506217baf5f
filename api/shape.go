package api

import (
	"math"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// shape is what may stand at one place of an object. Shapes are made from the
// Go types that objects are decoded into, so they cannot differ from them; the
// kinds of istio.io/api, which are protocol buffers, from their descriptors.
type shape struct {
	form form
	// fields of an object. A function, since types may contain themselves.
	fields func() map[string]shape
	// read are fields of an object that may stand there and say nothing.
	read []string
	// oneofs are fields of an object of which at most one may be written.
	oneofs [][]string
	elem   func() shape // of a list or a mapping
	keys   bool         // of a mapping: whole numbers
	words  []string     // that a text may be; any when empty
	lo, hi float64      // of an integer
	quoted bool         // an integer may also be written as a string
	// parse is how a value with a syntax of its own is read; nil without one.
	parse func(v any) error
}

// form is the coarse kind of a shape.
type form int

const (
	anything form = iota // not looked into
	object
	mapping
	list
	text
	boolean
	integer
	number
)

// String is how an error tells a user what belongs at a place.
func (f form) String() string {
	switch f {
	case object, mapping:
		return "an object"
	case list:
		return "a list"
	case text:
		return "a string"
	case boolean:
		return "true or false"
	case integer:
		return "a whole number"
	case number:
		return "a number"
	}
	return "anything"
}

// shapeOf is the shape of a Go type.
func shapeOf(t reflect.Type) shape {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[proto.Message]()) {
		m := reflect.New(t).Interface().(proto.Message)
		return shapeOfMessage(m.ProtoReflect().Descriptor())
	}
	if t == reflect.TypeFor[PeerMethod]() {
		t = reflect.TypeFor[peerWire]() // its JSON form is not its Go form
	}
	return shapeOfGo(t)
}

// integers is the shape of whole numbers of so many bits.
func integers(bits int, signed bool) shape {
	if signed {
		return shape{form: integer, lo: -math.Ldexp(1, bits-1), hi: math.Ldexp(1, bits-1) - 1}
	}
	return shape{form: integer, lo: 0, hi: math.Ldexp(1, bits) - 1}
}
