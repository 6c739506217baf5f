package hasp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	selector "istio.io/api/type/v1beta1"
)

// compatWorld is a client, a server, a client in another namespace and a gateway.
const compatWorld = `
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {sidecar.istio.io/inject: "true"}}
spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api, version: v1}, annotations: {sidecar.istio.io/inject: "true"}}
spec: {serviceAccountName: api, containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy, image: hasp/gateway}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.9}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: teller-1, namespace: bank, labels: {app: teller}, annotations: {sidecar.istio.io/inject: "true"}}
spec: {containers: [{name: app, image: x}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
`

const compatRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec: {hosts: ["*"], gateways: [front], http: [{route: [{destination: {host: api}}]}]}
`

const compatGateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]}
`

const compatEntry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: shop}
spec: {hosts: [vm.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: vm}}}
`

const compatSubsetRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [front]
  http:
  - {match: [{uri: {prefix: /v1}}], route: [{destination: {host: api, subset: v1}}]}
  - {route: [{destination: {host: api}}]}
`

type messages = map[string]protoreflect.ProtoMessage

func compatKinds() []compatKind {
	return []compatKind{
		{name: "Policy", apiVersion: "authentication.istio.io/v1alpha1", spec: `{targets: [{name: api}], peers: [{mtls: {mode: STRICT}}]}`, fields: compatPolicy},
		{name: "MeshPolicy", apiVersion: "authentication.istio.io/v1alpha1", spec: `peers: [{mtls: {mode: STRICT}}]`, fields: []compatField{
			{"peers[].mtls.mode", `peers: [{mtls: {mode: PERMISSIVE}}]`, ""},
			{"targets", `targets: [{name: api}]`, ""},
		}},
		{name: "PeerAuthentication", apiVersion: "security.istio.io/v1", spec: `mtls: {mode: STRICT}`, fields: []compatField{
			{"selector.matchLabels", `selector: {matchLabels: {app: api}}`, ""},
			{"mtls.mode", `mtls: {mode: DISABLE}`, ""},
			{"portLevelMtls", `portLevelMtls: {"8080": {mode: PERMISSIVE}}`, `selector: {matchLabels: {app: api}}`},
		}, whole: messages{
			"": (*security.PeerAuthentication)(nil), "selector.": (*selector.WorkloadSelector)(nil), "mtls.": (*security.PeerAuthentication_MutualTLS)(nil),
		}},
		{name: "AuthorizationPolicy", apiVersion: "security.istio.io/v1", spec: `{rules: [{from: [{source: {namespaces: [shop]}}]}]}`, fields: compatAuthorization, whole: messages{
			"": (*security.AuthorizationPolicy)(nil), "rules[].": (*security.Rule)(nil), "rules[].from[].source.": (*security.Source)(nil),
			"rules[].to[].operation.": (*security.Operation)(nil), "rules[].when[].": (*security.Condition)(nil),
		}},
		{name: "DestinationRule", apiVersion: "networking.istio.io/v1", spec: `{host: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}`, fields: compatRule, beside: compatGateway + "---" + compatSubsetRoute, whole: messages{
			"": (*networking.DestinationRule)(nil), "trafficPolicy.": (*networking.TrafficPolicy)(nil),
			"trafficPolicy.tls.": (*networking.ClientTLSSettings)(nil), "subsets[].": (*networking.Subset)(nil),
		}},
		{name: "ServiceEntry", apiVersion: "networking.istio.io/v1", fields: compatServiceEntry,
			spec:  `{hosts: [vm.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.2.0.1}]}`,
			whole: messages{"": (*networking.ServiceEntry)(nil), "ports[].": (*networking.ServicePort)(nil)}},
		{name: "WorkloadEntry", apiVersion: "networking.istio.io/v1", fields: compatWorkloadEntry, beside: compatEntry,
			spec: `{address: 10.2.0.1, labels: {app: vm}}`, whole: messages{"": (*networking.WorkloadEntry)(nil)}},
		{name: "Gateway", apiVersion: "networking.istio.io/v1", fields: compatGateways, beside: compatRoute + "---\n" + compatSecret(),
			spec:  `{selector: {istio: ingressgateway}, servers: [{hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]}`,
			whole: messages{"": (*networking.Gateway)(nil), "servers[].": (*networking.Server)(nil)}},
		{name: "VirtualService", apiVersion: "networking.istio.io/v1", fields: compatVirtual, beside: compatGateway,
			spec: `{hosts: ["*"], gateways: [front], http: [{route: [{destination: {host: api}}]}]}`,
			whole: messages{"": (*networking.VirtualService)(nil), "http[].": (*networking.HTTPRoute)(nil),
				"http[].match[].": (*networking.HTTPMatchRequest)(nil)}},
	}
}

var compatPolicy = []compatField{
	{"targets[].name", `targets: [{name: web}]`, ""},
	{"targets[].ports[]", `targets: [{name: api, ports: [{number: 81}]}]`, ""},
	{"peers[].mtls", `peers: []`, ""},
	{"peers[].mtls.mode", `peers: [{mtls: {mode: PERMISSIVE}}]`, ""},
	{"peers[].mtls.allowTls", `peers: [{mtls: {mode: STRICT, allowTls: true}}]`, ""},
	{"peers[].jwt", `peers: [{jwt: {issuer: x}}, {mtls: {mode: STRICT}}]`, ""},
	{"peerIsOptional", `peerIsOptional: true`, ""},
	{"origins", `origins: [{jwt: {issuer: x}}]`, ""},
	{"originIsOptional", `originIsOptional: true`, `origins: [{jwt: {issuer: x}}]`},
	{"principalBinding", `principalBinding: USE_ORIGIN`, `origins: [{jwt: {issuer: x}}]`},
}

const compatMutual = `trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem}}`

var compatAuthorization = []compatField{
	{"selector", `selector: {matchLabels: {app: api}}`, ""},
	{"targetRef", `targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}`, ""},
	{"targetRefs", `targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]`, ""},
	{"action ALLOW", `action: ALLOW`, `action: DENY`},
	{"action DENY", `action: DENY`, ""},
	{"action AUDIT", `action: AUDIT`, ""},
	{"action CUSTOM", `{action: CUSTOM, provider: {name: x}}`, ""},
	{"provider", `provider: {name: x}`, ""},
	{"rules[].from[].source.principals", `rules: [{from: [{source: {namespaces: [shop], principals: [x]}}]}]`, ""},
	{"rules[].from[].source.notPrincipals", `rules: [{from: [{source: {namespaces: [shop], notPrincipals: [x]}}]}]`, ""},
	{"rules[].from[].source.requestPrincipals", `rules: [{from: [{source: {namespaces: [shop], requestPrincipals: [x]}}]}]`, ""},
	{"rules[].from[].source.notRequestPrincipals", `rules: [{from: [{source: {namespaces: [shop], notRequestPrincipals: [x]}}]}]`, ""},
	{"rules[].from[].source.namespaces", `rules: [{from: [{source: {namespaces: [bank]}}]}]`, ""},
	{"rules[].from[].source.notNamespaces", `rules: [{from: [{source: {namespaces: [shop], notNamespaces: [x]}}]}]`, ""},
	{"rules[].from[].source.serviceAccounts", `rules: [{from: [{source: {serviceAccounts: [x]}}]}]`, ""},
	{"rules[].from[].source.notServiceAccounts", `rules: [{from: [{source: {notServiceAccounts: [x]}}]}]`, ""},
	{"rules[].from[].source.trustDomains", `rules: [{from: [{source: {namespaces: [shop], trustDomains: [x]}}]}]`, ""},
	{"rules[].from[].source.notTrustDomains", `rules: [{from: [{source: {namespaces: [shop], notTrustDomains: [x]}}]}]`, ""},
	{"rules[].from[].source.ipBlocks", `rules: [{from: [{source: {namespaces: [shop], ipBlocks: [10.0.0.1]}}]}]`, ""},
	{"rules[].from[].source.notIpBlocks", `rules: [{from: [{source: {namespaces: [shop], notIpBlocks: [10.0.0.1]}}]}]`, ""},
	{"rules[].from[].source.remoteIpBlocks", `rules: [{from: [{source: {namespaces: [shop], remoteIpBlocks: [10.0.0.1]}}]}]`, ""},
	{"rules[].from[].source.notRemoteIpBlocks", `rules: [{from: [{source: {namespaces: [shop], notRemoteIpBlocks: [10.0.0.1]}}]}]`, ""},
	{"rules[].to[].operation.hosts", `rules: [{to: [{operation: {hosts: [x]}}]}]`, ""},
	{"rules[].to[].operation.notHosts", `rules: [{to: [{operation: {notHosts: [x]}}]}]`, ""},
	{"rules[].to[].operation.ports", `rules: [{to: [{operation: {ports: ["8080"]}}]}]`, ""},
	{"rules[].to[].operation.notPorts", `rules: [{to: [{operation: {notPorts: ["8080"]}}]}]`, ""},
	{"rules[].to[].operation.methods", `rules: [{to: [{operation: {methods: [GET]}}]}]`, ""},
	{"rules[].to[].operation.notMethods", `rules: [{to: [{operation: {notMethods: [GET]}}]}]`, ""},
	{"rules[].to[].operation.paths", `rules: [{to: [{operation: {paths: [/x]}}]}]`, ""},
	{"rules[].to[].operation.notPaths", `rules: [{to: [{operation: {notPaths: [/x]}}]}]`, ""},
	{"rules[].when[].key source.ip", `rules: [{when: [{key: "source.ip", values: [10.0.0.1]}]}]`, ""},
	{"rules[].when[].key source.namespace", `rules: [{when: [{key: "source.namespace", values: [x]}]}]`, ""},
	{"rules[].when[].key source.principal", `rules: [{when: [{key: "source.principal", values: [x]}]}]`, ""},
	{"rules[].when[].key source.serviceAccount", `rules: [{when: [{key: "source.serviceAccount", values: [shop/x]}]}]`, ""},
	{"rules[].when[].key source.trustDomain", `rules: [{when: [{key: "source.trustDomain", values: [x]}]}]`, ""},
	{"rules[].when[].key destination.ip", `rules: [{when: [{key: "destination.ip", values: [10.0.0.2]}]}]`, ""},
	{"rules[].when[].key destination.port", `rules: [{when: [{key: "destination.port", values: ["8080"]}]}]`, ""},
	{"rules[].when[].key remote.ip", `rules: [{when: [{key: "remote.ip", values: [10.0.0.1]}]}]`, ""},
	{"rules[].when[].key connection.sni", `rules: [{when: [{key: "connection.sni", values: [x]}]}]`, ""},
	{"rules[].when[].key request.headers[x]", `rules: [{when: [{key: "request.headers[x]", values: [x]}]}]`, ""},
	{"rules[].when[].key request.auth.principal", `rules: [{when: [{key: "request.auth.principal", values: [x]}]}]`, ""},
	{"rules[].when[].key request.auth.claims[x]", `rules: [{when: [{key: "request.auth.claims[x]", values: [x]}]}]`, ""},
	{"rules[].when[].values", `rules: [{when: [{key: source.namespace, values: [x]}]}]`, ""},
	{"rules[].when[].notValues", `rules: [{when: [{key: source.namespace, notValues: [x]}]}]`, ""},
}

var compatRule = []compatField{
	{"host", `host: web`, ""},
	{"exportTo", `exportTo: [other]`, ""},
	{"workloadSelector", `workloadSelector: {matchLabels: {app: nobody}}`, ""},
	{"subsets[].name", `subsets: [{name: v2, labels: {version: v2}}]`, `subsets: [{name: v1, labels: {version: v2}}]`},
	{"subsets[].labels", `subsets: [{name: v1, labels: {version: v2}}]`, `subsets: [{name: v1, labels: {version: v1}}]`},
	{"subsets[].trafficPolicy", `subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}]`, `subsets: [{name: v1, labels: {version: v1}}]`},
	{"trafficPolicy.tls.mode", `trafficPolicy: {tls: {mode: DISABLE}}`, ""},
	{"trafficPolicy.tls.sni", `trafficPolicy: {tls: {sni: x.example.com}}`, ""},
	{"trafficPolicy.tls.subjectAltNames", `trafficPolicy: {tls: {subjectAltNames: ["spiffe://a/b"]}}`, ""},
	{"trafficPolicy.tls.clientCertificate", `trafficPolicy: {tls: {clientCertificate: /other.pem}}`, compatMutual},
	{"trafficPolicy.tls.privateKey", `trafficPolicy: {tls: {privateKey: /other.pem}}`, compatMutual},
	{"trafficPolicy.tls.caCertificates", `trafficPolicy: {tls: {caCertificates: /other.pem}}`, compatMutual},
	{"trafficPolicy.tls.caCrl", `trafficPolicy: {tls: {caCrl: /crl.pem}}`, compatMutual},
	{"trafficPolicy.tls.credentialName", `trafficPolicy: {tls: {credentialName: secret}}`, `{trafficPolicy: {tls: {mode: SIMPLE}}, workloadSelector: {matchLabels: {app: web}}}`},
	{"trafficPolicy.tls.insecureSkipVerify", `trafficPolicy: {tls: {insecureSkipVerify: true}}`, `trafficPolicy: {tls: {mode: SIMPLE}}`},
	{"trafficPolicy.portLevelSettings[].tls", `trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}`, ""},
	{"trafficPolicy.loadBalancer", `trafficPolicy: {loadBalancer: {simple: RANDOM}}`, ""},
	{"trafficPolicy.connectionPool", `trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}`, ""},
	{"trafficPolicy.outlierDetection", `trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}`, ""},
	{"trafficPolicy.retryBudget", `trafficPolicy: {retryBudget: {minRetryConcurrency: 1}}`, ""},
	{"trafficPolicy.tunnel", `trafficPolicy: {tunnel: {protocol: CONNECT, targetHost: a.example.com, targetPort: 80}}`, ""},
	{"trafficPolicy.proxyProtocol", `trafficPolicy: {proxyProtocol: {version: V2}}`, ""},
}

var compatServiceEntry = []compatField{
	{"hosts", `hosts: [other.example.com]`, ""},
	{"addresses", `addresses: [10.9.0.1]`, ""},
	{"ports[].number", `ports: [{number: 81, name: http, protocol: HTTP}]`, ""},
	{"ports[].name", `ports: [{number: 80, name: web, protocol: HTTP}, {number: 90, name: http, protocol: HTTP}]`,
		`{ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: web, protocol: HTTP}], endpoints: [{address: 10.2.0.1, ports: {web: 81}}]}`},
	{"ports[].protocol", `ports: [{number: 80, name: http, protocol: TCP}]`, ""},
	{"ports[].targetPort", `ports: [{number: 80, name: http, protocol: HTTP, targetPort: 81}]`, ""},
	{"location", `location: MESH_EXTERNAL`, `endpoints: [{address: 10.2.0.1, labels: {security.istio.io/tlsMode: istio}}]`},
	{"resolution", `resolution: DNS`, `{location: MESH_EXTERNAL, resolution: NONE, endpoints: null}`},
	{"endpoints", `endpoints: [{address: 10.2.0.2}]`, ""},
	{"workloadSelector", `workloadSelector: {labels: {app: web}}`, `endpoints: null`},
	{"exportTo", `exportTo: ["."]`, ""},
	{"subjectAltNames", `subjectAltNames: ["spiffe://a/b"]`, `endpoints: [{address: 10.2.0.1, labels: {security.istio.io/tlsMode: istio}}]`},
}

var compatWorkloadEntry = []compatField{
	{"address", `address: 10.2.0.2`, ""},
	{"ports", `ports: {http: 81}`, ""},
	{"labels", `labels: {app: other}`, ""},
	{"network", `network: n1`, ""},
	{"locality", `locality: a/b`, ""},
	{"weight", `weight: 5`, ""},
	{"serviceAccount", `serviceAccount: vm`, `labels: {app: vm, security.istio.io/tlsMode: istio}`},
}

const compatHTTPS = `servers: [{hosts: ["*"], port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: /etc/certs/cert-chain.pem, privateKey: /etc/certs/key.pem}}]`

var compatGateways = []compatField{
	{"selector", `selector: {istio: other}`, ""},
	{"servers[].port", `servers: [{hosts: ["*"], port: {number: 81, name: http, protocol: HTTP}}]`, ""},
	{"servers[].hosts", `servers: [{hosts: [a.example.com], port: {number: 80, name: http, protocol: HTTP}}]`, ""},
	{"servers[].tls.mode SIMPLE", compatHTTPS, ""},
	{"servers[].tls.mode MUTUAL", `servers: [{hosts: ["*"], port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: MUTUAL, serverCertificate: /etc/certs/cert-chain.pem, privateKey: /etc/certs/key.pem, caCertificates: /ca.pem}}]`, compatHTTPS},
	{"servers[].tls.mode PASSTHROUGH", `servers: [{hosts: ["*"], port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}}]`, ""},
	{"servers[].tls.credentialName", `servers: [{hosts: ["*"], port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: cert}}]`, compatHTTPS},
	{"servers[].tls.httpsRedirect", `servers: [{hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}, tls: {httpsRedirect: true}}]`, ""},
	{"servers[].tls.minProtocolVersion", `servers: [{hosts: ["*"], port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: /etc/certs/cert-chain.pem, privateKey: /etc/certs/key.pem, minProtocolVersion: TLSV1_3}}]`, compatHTTPS},
	{"servers[].bind", `servers: [{bind: 10.0.0.9, hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]`, ""},
	{"servers[].defaultEndpoint", `servers: [{defaultEndpoint: "127.0.0.1:80", hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]`, ""},
	{"servers[].name", `servers: [{name: main, hosts: ["*"], port: {number: 80, name: http, protocol: HTTP}}]`, ""},
}

var compatVirtual = []compatField{
	{"hosts", `hosts: [a.example.com]`, ""},
	{"gateways", `gateways: [other]`, ""},
	{"gateways: mesh, or none", `gateways: null`, `hosts: [api]`},
	{"http[].name", `http: [{name: main, route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].uri", `http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].method", `http: [{match: [{method: {exact: GET}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].scheme", `http: [{match: [{scheme: {exact: http}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].authority", `http: [{match: [{authority: {exact: a}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].headers", `http: [{match: [{headers: {x: {exact: a}}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].withoutHeaders", `http: [{match: [{withoutHeaders: {x: {exact: a}}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].queryParams", `http: [{match: [{queryParams: {x: {exact: a}}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].port", `http: [{match: [{uri: {prefix: /}, port: 80}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].ignoreUriCase", `http: [{match: [{uri: {prefix: /a}, ignoreUriCase: true}], route: [{destination: {host: api}}]}]`, `http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`},
	{"http[].match[].sourceLabels", `http: [{match: [{sourceLabels: {a: b}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].sourceNamespace", `http: [{match: [{sourceNamespace: other}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].gateways", `http: [{match: [{gateways: [other]}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].match[].name", `http: [{match: [{name: m, uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`, `http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`},
	{"http[].match[].statPrefix", `http: [{match: [{statPrefix: m, uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`, `http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`},
	{"http[].route[].destination", `http: [{route: [{destination: {host: web}}]}]`, ""},
	{"http[].route[].weight", `http: [{route: [{destination: {host: api}, weight: 90}, {destination: {host: web}, weight: 10}]}]`, ""},
	{"http[].route[].headers", `http: [{route: [{destination: {host: api}, headers: {request: {set: {a: b}}}}]}]`, ""},
	{"http[].rewrite.uri", `http: [{rewrite: {uri: /b}, match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`, `http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}]`},
	{"http[].rewrite.authority", `http: [{rewrite: {authority: b}, route: [{destination: {host: api}}]}]`, ""},
	{"http[].redirect", `http: [{redirect: {uri: /b}}]`, ""},
	{"http[].directResponse", `http: [{directResponse: {status: 503}}]`, ""},
	{"http[].delegate", `http: [{delegate: {name: other}}]`, ""},
	{"http[].timeout", `http: [{timeout: 5s, route: [{destination: {host: api}}]}]`, ""},
	{"http[].retries", `http: [{retries: {attempts: 3}, route: [{destination: {host: api}}]}]`, ""},
	{"http[].fault", `http: [{fault: {abort: {httpStatus: 503, percentage: {value: 50}}}, route: [{destination: {host: api}}]}]`, ""},
	{"http[].mirror", `http: [{mirror: {host: web}, route: [{destination: {host: api}}]}]`, ""},
	{"http[].mirrors", `http: [{mirrors: [{destination: {host: web}}], route: [{destination: {host: api}}]}]`, ""},
	{"http[].mirrorPercent", `http: [{mirrorPercent: 5, route: [{destination: {host: api}}]}]`, ""},
	{"http[].mirrorPercentage", `http: [{mirrorPercentage: {value: 5}, mirror: {host: web}, route: [{destination: {host: api}}]}]`, `http: [{mirror: {host: web}, route: [{destination: {host: api}}]}]`},
	{"http[].corsPolicy", `http: [{corsPolicy: {allowMethods: [GET]}, route: [{destination: {host: api}}]}]`, ""},
	{"http[].headers", `http: [{headers: {request: {set: {a: b}}}, route: [{destination: {host: api}}]}]`, ""},
	{"tcp", `tcp: [{route: [{destination: {host: api}}]}]`, ""},
	{"tls", `tls: [{match: [{sniHosts: [a.example.com], port: 443}], route: [{destination: {host: api}}]}]`, `hosts: [a.example.com]`},
	{"exportTo", `exportTo: ["."]`, ""},
}

// compatSecret is a TLS Secret with a certificate made for the day.
func compatSecret() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example.com"}, NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: istio-system}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: %s\n  tls.key: %s\n",
		base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
