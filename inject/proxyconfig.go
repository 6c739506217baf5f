package inject

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

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
// as YAML. Of it holdApplicationUntilProxyStarts and some of proxyMetadata are
// followed. The other fields are about Envoy: a warning names them, and one that
// does not exist is an error.
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
			wrong := protoNoise.ReplaceAllString(err.Error(), "")
			if strings.Contains(wrong, "for string field") { // as HASP_TRUNKS: false is
				wrong += "; write it in quotes"
			}
			return errors.New(wrong)
		}
	}
	if cfg.HoldApplicationUntilProxyStarts != nil {
		s.hold = cfg.HoldApplicationUntilProxyStarts.Value
	}
	var others, wrong []string
	for _, key := range slices.Sorted(maps.Keys(cfg.ProxyMetadata)) {
		value := cfg.ProxyMetadata[key]
		read, ours := metadataReaders[key]
		if !ours {
			others = append(others, "proxyMetadata."+key)
		} else if err := read(s, value); err != nil {
			wrong = append(wrong, fmt.Sprintf("proxyMetadata.%s: %q: %v", key, value, err))
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
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

// metadataReaders are the entries of proxyMetadata that are followed.
var metadataReaders = map[string]func(*sidecar, string) error{
	api.TrunksKey: func(s *sidecar, v string) error {
		var on bool
		err := flag(v, &on)
		if s.trunks = "on"; !on {
			s.trunks = "off"
		}
		return err
	},
	api.IdleKey: func(s *sidecar, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 || d > api.MaxIdle {
			return fmt.Errorf("write a duration such as 1h, at most %s, or 0s for ever", api.MaxIdle)
		}
		s.idle = d.String()
		return nil
	},
}

// protoNoise is what protojson puts before the sentence; its blanks vary.
var protoNoise = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?(\(line [0-9:]+\):\s*)?`)
