package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Entries of a ProxyConfig's proxyMetadata, of the mesh or of a pod.
const (
	// TrunksKey says whether a TLS connection may carry one connection after another:
	// "true" or "false".
	TrunksKey = "HASP_TRUNKS"
	// IdleKey is Istio's, for how long a connection may be silent before it is ended:
	// a duration of at most MaxIdle, "0s" for ever.
	IdleKey = "ISTIO_META_IDLE_TIMEOUT"
	MaxIdle = 24 * time.Hour
)

// setting puts one value into a MeshConfig, or says what is wrong with it.
type setting func(m *MeshConfig, v any) (wrong string)

// meshSettings is the part of Istio's MeshConfig that hasp reads, by path.
func meshSettings() map[string]setting {
	return map[string]setting{
		"rootNamespace":  name(validation.IsDNS1123Label, func(m *MeshConfig) *string { return &m.RootNamespace }),
		"trustDomain":    name(validation.IsDNS1123Subdomain, func(m *MeshConfig) *string { return &m.TrustDomain }),
		"enableAutoMtls": yesNo(func(m *MeshConfig) *bool { return &m.EnableAutoMtls }),
		"outboundTrafficPolicy.mode": oneOf([]string{"ALLOW_ANY", "REGISTRY_ONLY"}, func(m *MeshConfig, s string) {
			m.OutboundAllowAny = s == "ALLOW_ANY"
		}),
		"meshMTLS.minProtocolVersion": oneOf([]string{"TLS_AUTO", "TLSV1_2", "TLSV1_3"}, func(m *MeshConfig, s string) {
			m.MinTLS = "1.3"
			if s == "TLSV1_2" {
				m.MinTLS = "1.2"
			}
		}),
		"accessLogFile": oneOf([]string{"", "/dev/stdout"}, func(m *MeshConfig, s string) { m.AccessLogFile = s }),
		"accessLogEncoding": oneOf([]string{"TEXT", "JSON"}, func(m *MeshConfig, s string) {
			m.AccessLogEncoding = s
		}),
		// The bounds of Istio's own validation.
		"connectTimeout":              span(time.Millisecond, 30*time.Second, func(m *MeshConfig) *int64 { return &m.ConnectTimeoutMillis }),
		"defaultConfig.drainDuration": span(time.Second, time.Hour, func(m *MeshConfig) *int64 { return &m.DrainMillis }),
		"defaultConfig.terminationDrainDuration": span(time.Millisecond, time.Hour, func(m *MeshConfig) *int64 {
			return &m.TerminationDrainMillis
		}),
		"defaultConfig.proxyMetadata." + IdleKey: span(0, MaxIdle, func(m *MeshConfig) *int64 { return &m.IdleMillis }),
		"defaultConfig.proxyMetadata." + TrunksKey: func(m *MeshConfig, v any) string {
			if v != "true" && v != "false" {
				return `must be "true" or "false", in quotes, not ` + describe(v)
			}
			m.NoTrunks = v == "false"
			return ""
		},
	}
}

// name is a text that one of Kubernetes' own checks accepts.
func name(check func(string) []string, at func(*MeshConfig) *string) setting {
	return func(m *MeshConfig, v any) string {
		s, ok := v.(string)
		if !ok {
			return "must be a string, not " + describe(v)
		}
		if wrong := check(s); len(wrong) > 0 {
			return strings.Join(wrong, "; ")
		}
		*at(m) = s
		return ""
	}
}

func yesNo(at func(*MeshConfig) *bool) setting {
	return func(m *MeshConfig, v any) string {
		b, ok := v.(bool)
		if !ok {
			return "must be true or false, not " + describe(v)
		}
		*at(m) = b
		return ""
	}
}

func oneOf(words []string, set func(*MeshConfig, string)) setting {
	return func(m *MeshConfig, v any) string {
		s, ok := v.(string)
		if !ok || !slices.Contains(words, s) {
			quoted := make([]string, len(words))
			for i, w := range words {
				quoted[i] = w
				if w == "" {
					quoted[i] = `""`
				}
			}
			return "must be one of " + strings.Join(quoted, ", ") + ", not " + describe(v)
		}
		set(m, s)
		return ""
	}
}

// span is a duration within bounds, kept in milliseconds.
func span(least, most time.Duration, at func(*MeshConfig) *int64) setting {
	return func(m *MeshConfig, v any) string {
		s, _ := v.(string)
		d, err := time.ParseDuration(s)
		if err != nil {
			return "must be a duration such as 10s or 500ms, not " + describe(v)
		}
		if d < least || d > most {
			return fmt.Sprintf("%s is out of range, must be %s to %s", d, least, most)
		}
		*at(m) = d.Milliseconds()
		return ""
	}
}
