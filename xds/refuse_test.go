package xds_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hasp/mesh"
	"hasp/xds"
)

const boards = "outbound|8080||boards.microservices-demo.svc.cluster.local"

// change takes one resource of the lab's configuration, spoils it, and puts it back.
func change[M proto.Message](kind, name string, m M, spoil func(M)) func(*testing.T, xds.Resources) {
	return func(t *testing.T, r xds.Resources) {
		t.Helper()
		if err := r[kind][name].Body.UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		body, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		r.Set(kind, name, xds.Resource{Version: "spoilt", Body: body})
	}
}

func inbound(spoil func(*listenerv3.Listener)) func(*testing.T, xds.Resources) {
	return change(xds.ListenerType, "virtualInbound", new(listenerv3.Listener), spoil)
}

func cluster(spoil func(*clusterv3.Cluster)) func(*testing.T, xds.Resources) {
	return change(xds.ClusterType, boards, new(clusterv3.Cluster), spoil)
}

func remove(kind, name string) func(*testing.T, xds.Resources) {
	return func(_ *testing.T, r xds.Resources) { delete(r[kind], name) }
}

// What a proxy would not act on is refused by the field's name: this text is
// the NACK that a person reads in the status of the object.
func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, xds.Resources)
		want  string
	}{
		{"no proxy", remove(xds.RuntimeType, "hasp.proxy"), `xds: Runtime "hasp.proxy" is not there`},
		{"no peers", remove(xds.EndpointType, "hasp.peers"), `xds: ClusterLoadAssignment "hasp.peers" is not there`},
		{"no inbound", remove(xds.ListenerType, "virtualInbound"), `xds: Listener "virtualInbound" is not there`},
		{"no endpoints", remove(xds.EndpointType, boards), `xds: Cluster "` + boards + `": ClusterLoadAssignment "` + boards + `" is not there`},
		{"no cluster", remove(xds.ClusterType, boards), `xds: Listener "10.96.0.7_8080": there is no cluster "` + boards + `"`},
		{"a field we do not act on", inbound(func(l *listenerv3.Listener) {
			l.PerConnectionBufferLimitBytes = wrapperspb.UInt32(1)
		}), `xds: Listener "virtualInbound": field per_connection_buffer_limit_bytes is not supported`},
		{"another filter", inbound(func(l *listenerv3.Listener) {
			body, _ := anypb.New(&rbacv3.RBAC{StatPrefix: "x"})
			f := &listenerv3.Filter{Name: "envoy.filters.network.rbac", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: body}}
			l.FilterChains[0].Filters = append([]*listenerv3.Filter{f}, l.FilterChains[0].Filters...)
		}), `xds: Listener "virtualInbound": filter_chains[0]: filters: 2 are not supported, one is`},
		{"STRICT without TLS", inbound(func(l *listenerv3.Listener) {
			l.FilterChains[0].TransportSocket = nil
		}), `xds: Listener "virtualInbound": filter_chains: those of port 8080 are not those of mode "STRICT"`},
		{"STRICT that asks for no certificate", inbound(func(l *listenerv3.Listener) {
			l.FilterChains[0].TransportSocket.GetTypedConfig().Value = nil
		}), `xds: Listener "virtualInbound": filter_chains[0]: transport_socket: only secrets "default" and "ROOTCA" with require_client_certificate are supported`},
		{"metadata says otherwise", inbound(func(l *listenerv3.Listener) {
			l.FilterChains[0].Metadata.FilterMetadata["hasp"].Fields["mode"] = structpb.NewStringValue("DISABLE")
		}), `xds: Listener "virtualInbound": filter_chains: those of port 8080 are not those of mode "DISABLE"`},
		{"metadata of a later version", inbound(func(l *listenerv3.Listener) {
			l.FilterChains[0].Metadata.FilterMetadata["hasp"].Fields["rateLimit"] = structpb.NewNumberValue(1)
		}), `xds: Listener "virtualInbound": filter_chains[0]: metadata hasp: json: unknown field "rateLimit"`},
		{"no default", inbound(func(l *listenerv3.Listener) {
			l.FilterChains = l.FilterChains[:1]
		}), `xds: Listener "virtualInbound": filter_chains: none is for the ports that are not listed`},
		{"Envoy's own rules", cluster(func(c *clusterv3.Cluster) {
			c.ConnectTimeout = durationpb.New(-1)
		}), `xds: Cluster "` + boards + `": invalid Cluster.ConnectTimeout: value must be greater than 0s`},
		{"a connect timeout of its own", cluster(func(c *clusterv3.Cluster) {
			c.ConnectTimeout = durationpb.New(time.Second)
		}), `xds: Cluster "` + boards + `": connect_timeout 1s is not that of the settings, 10s`},
		{"an access log nobody set", inbound(func(l *listenerv3.Listener) {
			tcp := new(tcpproxyv3.TcpProxy)
			f := l.FilterChains[0].Filters[0]
			_ = f.GetTypedConfig().UnmarshalTo(tcp)
			tcp.AccessLog = []*accesslogv3.AccessLog{{Name: "envoy.access_loggers.stdout"}}
			body, _ := anypb.New(tcp)
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: body}
		}), `xds: Listener "virtualInbound": filter_chains[0]: filters[0]: access_log is not that of the settings' form ""`},
		{"auto with one socket", cluster(func(c *clusterv3.Cluster) {
			c.TransportSocketMatches = c.TransportSocketMatches[:1]
		}), `xds: Cluster "` + boards + `": tls mode AUTO must have transport_socket_matches for tlsMode istio and for the rest`},
		{"logical DNS", cluster(func(c *clusterv3.Cluster) {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		}), `xds: Cluster "` + boards + `": type LOGICAL_DNS is not supported`},
		{"a weighted endpoint", change(xds.EndpointType, boards, new(endpointv3.ClusterLoadAssignment), func(m *endpointv3.ClusterLoadAssignment) {
			m.Endpoints[0].LbEndpoints[0].LoadBalancingWeight = wrapperspb.UInt32(3)
		}), `xds: Cluster "` + boards + `": endpoints[0].lb_endpoints[0]: field load_balancing_weight is not supported`},
		{"a pipe", change(xds.EndpointType, boards, new(endpointv3.ClusterLoadAssignment), func(m *endpointv3.ClusterLoadAssignment) {
			m.Endpoints[0].LbEndpoints[0].GetEndpoint().Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}
		}), `xds: Cluster "` + boards + `": endpoints[0].lb_endpoints[0]: address: field pipe is not supported`},
		{"another's name", func(_ *testing.T, r xds.Resources) {
			r.Set(xds.ListenerType, "10.96.0.9_80", r[xds.ListenerType]["10.96.0.7_8080"])
		}, `xds: Listener "10.96.0.9_80": it calls itself "10.96.0.7_8080"`},
		{"another type", func(_ *testing.T, r xds.Resources) {
			r.Set(xds.ListenerType, "virtualInbound", r[xds.ClusterType][boards])
		}, `xds: Listener "virtualInbound": type "type.googleapis.com/envoy.config.cluster.v3.Cluster", want envoy.config.listener.v3.Listener`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := xds.Encode(lab())
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, r)
			c, err := xds.Decode(r)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if c != nil {
				t.Error("there is a configuration beside the error")
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	gateway := func(servers ...mesh.Server) func(*mesh.ProxyConfig) {
		return func(c *mesh.ProxyConfig) {
			c.Role, c.Inbound, c.Outbound.Listeners, c.Gateway = mesh.RoleGateway, mesh.Inbound{}, nil, servers
		}
	}
	star := []string{"*"}
	for _, tt := range []struct {
		name  string
		spoil func(*mesh.ProxyConfig)
		want  string
	}{
		{"role", func(c *mesh.ProxyConfig) { c.Role = "" }, `xds: Runtime "hasp.proxy": role "" is not supported`},
		{"log form", func(c *mesh.ProxyConfig) { c.Settings.AccessLog = "XML" }, `xds: Runtime "hasp.proxy": settings.accessLog "XML" is not supported`},
		{"idle", func(c *mesh.ProxyConfig) { c.Settings.IdleMillis = 86_400_001 }, `xds: Runtime "hasp.proxy": settings.idleMillis 86400001 is out of range, must be 0 to 86400000`},
		{"drain", func(c *mesh.ProxyConfig) { c.Settings.DrainMillis = -1 }, `xds: Runtime "hasp.proxy": settings.drainMillis -1 is out of range, must be 0 to 86400000`},
		{"two listeners", func(c *mesh.ProxyConfig) {
			c.Outbound.Listeners = append(c.Outbound.Listeners, c.Outbound.Listeners[0])
		}, `xds: two of the name Listener "10.96.0.7_8080"`},
		{"no cluster", func(c *mesh.ProxyConfig) { c.Outbound.Clusters = nil }, `xds: listener 10.96.0.7_8080: there is no cluster "` + boards + `"`},
		{"reserved", func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].Name = "PassthroughCluster" }, `xds: a cluster cannot have the name "PassthroughCluster"`},
		{"tls mode", func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].TLS.Mode = "OPTIONAL" }, `xds: cluster "` + boards + `": tls mode "OPTIONAL" is not known`},
		{"endpoint", func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].Endpoints[0].Addr = netip.Addr{} }, `xds: cluster "` + boards + `": endpoint 0: it has neither address nor host`},
		{"long SNI", func(c *mesh.ProxyConfig) { c.Outbound.Clusters[0].TLS.SNI = strings.Repeat("a", 256) }, `xds: cluster "` + boards + `": invalid UpstreamTlsContext.Sni: value length must be at most 255 bytes`},
		{"servers of a sidecar", func(c *mesh.ProxyConfig) { c.Gateway = []mesh.Server{{}} }, `xds: a proxy of role "sidecar" has servers of a gateway`},
		{"secret", gateway(mesh.Server{Name: "s", Port: 443, Protocol: mesh.HTTPS, Hosts: star, Secret: "kubernetes://x"}), `xds: server s on port 443: there is no secret "kubernetes://x"`},
		{"same SNI", gateway(
			mesh.Server{Name: "a", Port: 443, Protocol: mesh.HTTPS, Hosts: star, Secret: "default"},
			mesh.Server{Name: "b", Port: 443, Protocol: mesh.HTTPS, Hosts: star, Secret: "default"},
		), `xds: gateway port 443: servers a and b both have host *`},
		{"protocols", gateway(
			mesh.Server{Name: "a", Port: 80, Protocol: mesh.HTTP, Hosts: star},
			mesh.Server{Name: "b", Port: 80, Protocol: mesh.HTTPS, Hosts: star, Secret: "default"},
		), `xds: gateway port 80: servers of protocols http and https cannot share it`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := lab()
			tt.spoil(c)
			if _, err := xds.Encode(c); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// Settings that a mode does not use do not travel, and so cannot be mistaken
// for settings that it uses.
func TestEncodeLeavesOutWhatTheModeDoesNotUse(t *testing.T) {
	c := lab()
	c.Outbound.Clusters[0].TLS = mesh.ClientTLS{Mode: mesh.ClientDisable, SNI: "x", CACertificates: "/ca", InsecureSkipVerify: true}
	r, err := xds.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := xds.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	if tls := got.Outbound.Clusters[0].TLS; tls.Mode != mesh.ClientDisable || tls.SNI+tls.CACertificates != "" || tls.InsecureSkipVerify {
		t.Errorf("%+v", tls)
	}
}
