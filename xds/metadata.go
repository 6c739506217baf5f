package xds

import (
	"bytes"
	"encoding/json"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Keys of filter metadata.
const (
	haspKey  = "hasp"                         // ours
	istioKey = "istio"                        // as Istio's proxies read it
	matchKey = "envoy.transport_socket_match" // Envoy's, for transport_socket_matches
)

// metadata builds filter metadata; values are structs with JSON tags. Keys
// whose value has nothing to say are left out.
func metadata(values map[string]any) (*corev3.Metadata, error) {
	md := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	for key, v := range values {
		s, err := toStruct(v)
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", key, err)
		}
		if len(s.GetFields()) > 0 {
			md.FilterMetadata[key] = s
		}
	}
	if len(md.FilterMetadata) == 0 {
		return nil, nil
	}
	return md, nil
}

// readMetadata fills the values whose keys are there. Other keys are refused:
// they would be instructions for a filter we are not.
func readMetadata(md *corev3.Metadata, values map[string]any) error {
	if md == nil {
		return nil
	}
	if err := only(md, "filter_metadata"); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for key, s := range md.GetFilterMetadata() {
		v, ok := values[key]
		if !ok {
			return fmt.Errorf("metadata %q is not supported", key)
		}
		if err := fromStruct(s, v); err != nil {
			return fmt.Errorf("metadata %s: %w", key, err)
		}
	}
	return nil
}

// A Struct is JSON on the wire by definition, so JSON is how it is converted:
// names of fields and what is left out stand once, in the tags.
func toStruct(v any) (*structpb.Struct, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	s := new(structpb.Struct)
	return s, s.UnmarshalJSON(b)
}

func fromStruct(s *structpb.Struct, v any) error {
	b, err := s.MarshalJSON()
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
