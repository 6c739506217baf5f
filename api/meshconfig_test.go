package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/api"
)

func TestParseMeshConfig(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		set  func(*api.MeshConfig)
	}{
		"empty":          {"", func(m *api.MeshConfig) {}},
		"comment":        {"# later\n", func(m *api.MeshConfig) {}},
		"null":           {"trustDomain:\ndefaultConfig:\n", func(m *api.MeshConfig) {}},
		"rootNamespace":  {"rootNamespace: mesh", func(m *api.MeshConfig) { m.RootNamespace = "mesh" }},
		"trustDomain":    {"trustDomain: corp.example", func(m *api.MeshConfig) { m.TrustDomain = "corp.example" }},
		"enableAutoMtls": {"enableAutoMtls: false", func(m *api.MeshConfig) { m.EnableAutoMtls = false }},
		"registry only":  {"outboundTrafficPolicy: {mode: REGISTRY_ONLY}", func(m *api.MeshConfig) { m.OutboundAllowAny = false }},
		"allow any":      {"outboundTrafficPolicy: {mode: ALLOW_ANY}", func(m *api.MeshConfig) {}},
		"tls 1.2":        {"meshMTLS: {minProtocolVersion: TLSV1_2}", func(m *api.MeshConfig) { m.MinTLS = "1.2" }},
		"tls 1.3":        {"meshMTLS: {minProtocolVersion: TLSV1_3}", func(m *api.MeshConfig) {}},
		"tls auto":       {"meshMTLS: {minProtocolVersion: TLS_AUTO}", func(m *api.MeshConfig) {}},
		"no access log":  {`accessLogFile: ""`, func(m *api.MeshConfig) { m.AccessLogFile = "" }},
		"json log":       {"accessLogFile: /dev/stdout\naccessLogEncoding: JSON", func(m *api.MeshConfig) { m.AccessLogEncoding = "JSON" }},
		"connectTimeout": {"connectTimeout: 1.5s", func(m *api.MeshConfig) { m.ConnectTimeoutMillis = 1500 }},
		"drainDuration":  {"defaultConfig: {drainDuration: 1m}", func(m *api.MeshConfig) { m.DrainMillis = 60000 }},
		"terminationDrainDuration": {"defaultConfig: {terminationDrainDuration: 2s}", func(m *api.MeshConfig) {
			m.TerminationDrainMillis = 2000
		}},
		"no trunks": {`defaultConfig: {proxyMetadata: {HASP_TRUNKS: "false"}}`, func(m *api.MeshConfig) { m.NoTrunks = true }},
		"idle":      {`defaultConfig: {proxyMetadata: {ISTIO_META_IDLE_TIMEOUT: 1h}}`, func(m *api.MeshConfig) { m.IdleMillis = 3600000 }},
		"not idle":  {`defaultConfig: {proxyMetadata: {ISTIO_META_IDLE_TIMEOUT: 0s}}`, func(m *api.MeshConfig) {}},
		"trunks":    {`defaultConfig: {proxyMetadata: {HASP_TRUNKS: "true"}}`, func(m *api.MeshConfig) {}},
	} {
		want := api.DefaultMeshConfig()
		c.set(want)
		got, err := api.ParseMeshConfig(c.yaml)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestParseMeshConfigErrors(t *testing.T) {
	for _, c := range [][2]string{
		{"enableAutoMTLS: true", `line 1: enableAutoMTLS: unknown field "enableAutoMTLS"; did you mean "enableAutoMtls"?`},
		{"trust_domain: a", `line 1: trust_domain: unknown field "trust_domain"; did you mean "trustDomain"?`},
		{"\n\nxyz: 1", `line 3: xyz: unknown field "xyz"; known fields are accessLogEncoding, accessLogFile, connectTimeout, defaultConfig, enableAutoMtls, meshMTLS, outboundTrafficPolicy, rootNamespace, trustDomain`},
		{"outboundTrafficPolicy: {modus: ALLOW_ANY}", `line 1: outboundTrafficPolicy.modus: unknown field "modus"; did you mean "mode"?`},
		{"trustDomain: a\ntcpKeepalive: {}", `line 2: tcpKeepalive: hasp does not support meshConfig field tcpKeepalive yet; remove it`},
		{"defaultConfig:\n  concurrency: 2", `line 2: defaultConfig.concurrency: hasp does not support meshConfig field defaultConfig.concurrency yet; remove it`},
		{"defaultConfig: {proxyMetadata: {HASP_TRUNKS: off}}", `line 1: defaultConfig.proxyMetadata.HASP_TRUNKS: must be "true" or "false", in quotes, not false`},
		{"defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}}", `line 1: defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE: hasp does not support meshConfig field defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE yet; remove it`},
		{"defaultConfig: {proxyMetadata: {ISTIO_META_IDLE_TIMEOUT: 25h}}", `line 1: defaultConfig.proxyMetadata.ISTIO_META_IDLE_TIMEOUT: 25h0m0s is out of range, must be 0s to 24h0m0s`},
		{"meshMTLS:\n  cipherSuites: [a]", `line 2: meshMTLS.cipherSuites: hasp does not support meshConfig field meshMTLS.cipherSuites yet; remove it`},
		{"meshMTLS: {minProtocolVersion: TLSV1_1}", `line 1: meshMTLS.minProtocolVersion: must be one of TLS_AUTO, TLSV1_2, TLSV1_3, not the string "TLSV1_1"`},
		{"meshMTLS: {minProtocolVersion: 1.3}", `line 1: meshMTLS.minProtocolVersion: must be one of TLS_AUTO, TLSV1_2, TLSV1_3, not 1.3`},
		{"outboundTrafficPolicy:\n  mode: ALLOW", `line 2: outboundTrafficPolicy.mode: must be one of ALLOW_ANY, REGISTRY_ONLY, not the string "ALLOW"`},
		{"outboundTrafficPolicy: ALLOW_ANY", `line 1: outboundTrafficPolicy: must be an object, not the string "ALLOW_ANY"`},
		{"accessLogFile: /tmp/log", `line 1: accessLogFile: must be one of "", /dev/stdout, not the string "/tmp/log"`},
		{"enableAutoMtls: maybe", `line 1: enableAutoMtls: must be true or false, not the string "maybe"`},
		{"connectTimeout: 10", `line 1: connectTimeout: must be a duration such as 10s or 500ms, not 10`},
		{"connectTimeout: 1m", `line 1: connectTimeout: 1m0s is out of range, must be 1ms to 30s`},
		{"connectTimeout: -1s", `line 1: connectTimeout: -1s is out of range, must be 1ms to 30s`},
		{"defaultConfig: {drainDuration: 10ms}", `line 1: defaultConfig.drainDuration: 10ms is out of range, must be 1s to 1h0m0s`},
		{"defaultConfig: {terminationDrainDuration: 0s}", `line 1: defaultConfig.terminationDrainDuration: 0s is out of range, must be 1ms to 1h0m0s`},
		{"rootNamespace: Mesh", `line 1: rootNamespace: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`},
		{"trustDomain: 5", `line 1: trustDomain: must be a string, not 5`},
		{"a: b: c", `line 1: not valid YAML: mapping values are not allowed in this context`},
		{"- a", `line 1: not an object; write FIELD: VALUE lines`},
		{"trustDomain: a\ntrustDomain: b", `line 2: "trustDomain" is written twice here; keep one`},
	} {
		m, err := api.ParseMeshConfig(c[0])
		if err == nil {
			t.Errorf("%q: no error", c[0])
		} else if got := strings.TrimPrefix(err.Error(), "mesh config "); got != c[1] {
			t.Errorf("%q:\ngot  %s\nwant %s", c[0], got, c[1])
		}
		if m != nil {
			t.Errorf("%q: a configuration beside the error", c[0])
		}
	}
}

func TestParseMeshConfigNamesAll(t *testing.T) {
	_, err := api.ParseMeshConfig("trustDomain: 5\nfoo: 1\n")
	if got := strings.Count(err.Error(), "mesh config line"); got != 2 {
		t.Errorf("%d problems named, want 2: %v", got, err)
	}
}

func FuzzParseMeshConfig(f *testing.F) {
	f.Add("enableAutoMtls: false\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
	f.Add("meshMTLS: &a {minProtocolVersion: TLSV1_2}\ntlsDefaults: *a\n")
	f.Add("defaultConfig: {proxyMetadata: {HASP_TRUNKS: 'false', A: {b: c}}}\n")
	f.Add("defaultConfig:\n  drainDuration: 10s\n  <<: {concurrency: 1}\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := api.ParseMeshConfig(text)
		if (m == nil) == (err == nil) {
			t.Fatalf("ParseMeshConfig = %v, %v", m, err)
		}
		if err == nil && (m.RootNamespace == "" || m.TrustDomain == "" || m.ConnectTimeoutMillis <= 0 || m.DrainMillis <= 0) {
			t.Fatalf("a default is gone: %+v", m)
		}
	})
}
