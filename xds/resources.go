package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
)

// Limits of one configuration, against a control plane gone mad.
const (
	MaxResources = 200_000
	MaxBytes     = 256 << 20
)

// Resources are the resources of one proxy by type URL and name. Bodies are
// shared and never changed.
type Resources map[string]map[string]Resource

// Resource is one of them. Its version is a hash of its content.
type Resource struct {
	Version string
	Body    *anypb.Any
}

// Set puts a resource in place of any of the same type and name.
func (r Resources) Set(kind, name string, res Resource) {
	if r[kind] == nil {
		r[kind] = map[string]Resource{}
	}
	r[kind][name] = res
}

// Names of the resources of a type, sorted.
func (r Resources) Names(kind string) []string {
	return slices.Sorted(maps.Keys(r[kind]))
}

// Clone is a copy whose maps can be changed.
func (r Resources) Clone() Resources {
	out := make(Resources, len(r))
	for kind, m := range r {
		out[kind] = maps.Clone(m)
	}
	return out
}

// CheckSize is an error when there are more or larger resources than the limits.
func (r Resources) CheckSize() error {
	count, size := 0, 0
	for _, m := range r {
		count += len(m)
		for _, res := range m {
			size += len(res.Body.GetValue())
		}
	}
	if count > MaxResources || size > MaxBytes {
		return fmt.Errorf("xds: %d resources of %d bytes are more than the limits %d and %d", count, size, MaxResources, MaxBytes)
	}
	return nil
}

// digest is a hash of which resources, in which versions, there are, leaving
// out the Runtime that carries it.
func (r Resources) digest() string {
	h := sha256.New()
	for _, kind := range Types {
		if kind == RuntimeType {
			continue
		}
		for _, name := range r.Names(kind) {
			fmt.Fprintf(h, "%q %q %q\n", kind, name, r[kind][name].Version)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func version(body *anypb.Any) string {
	sum := sha256.Sum256(body.GetValue())
	return hex.EncodeToString(sum[:8])
}

// short is the last word of a type URL, for messages.
func short(kind string) string { return kind[strings.LastIndexByte(kind, '.')+1:] }
