package inject

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	istio "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"

	"hasp/api"
)

// maxProxyConfig bounds the annotation proxy.istio.io/config; an API server
// bounds all annotations together at 256 KiB.
const maxProxyConfig = 64 << 10

// readProxyConfig reads the annotation proxy.istio.io/config, Istio's ProxyConfig
// as YAML. Of it holdApplicationUntilProxyStarts and HASP_TRUNKS in proxyMetadata are
// followed. The other fields are about Envoy: a warning names them, and one that does
// not exist is an error.
func (s *sidecar) readProxyConfig(text string) error {
	if len(text) > maxProxyConfig {
		return fmt.Errorf("%d bytes are too many; %d are read", len(text), maxProxyConfig)
	}
	b, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return fmt.Errorf("not valid YAML: %w", err)
	}
	cfg := &istio.ProxyConfig{}
	if string(b) != "null" {
		if err := protojson.Unmarshal(b, cfg); err != nil {
			return errors.New(protoNoise.ReplaceAllString(err.Error(), ""))
		}
	}
	if cfg.HoldApplicationUntilProxyStarts != nil {
		s.hold = cfg.HoldApplicationUntilProxyStarts.Value
	}
	var others []string
	for key, value := range cfg.ProxyMetadata {
		if key != api.TrunksKey {
			others = append(others, "proxyMetadata."+key)
			continue
		}
		var on bool
		if err := flag(value, &on); err != nil {
			return fmt.Errorf("proxyMetadata.%s: %q: %w", key, value, err)
		}
		if s.trunks = "on"; !on {
			s.trunks = "off"
		}
	}
	cfg.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if name := f.JSONName(); name != "holdApplicationUntilProxyStarts" && name != "proxyMetadata" {
			others = append(others, name)
		}
		return true
	})
	slices.Sort(others)
	for _, name := range others {
		s.warn("annotation %s: %s has no effect: hasp does not support it", proxyConfigKey, name)
	}
	return nil
}

// protoNoise is what protojson puts before the sentence; its blanks vary.
var protoNoise = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?(\(line [0-9:]+\):\s*)?`)
