package whatif_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// workloads of every case: %d is the case's network.
const workloads = `
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: a, labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}, status: {podIP: 127.%[1]d.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: a, labels: {app: api}}, spec: {serviceAccountName: api, containers: [{name: a, image: x, ports: [{containerPort: 18080}, {containerPort: 18081}]}, {name: istio-proxy, image: x}]}, status: {podIP: 127.%[1]d.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: legacy, namespace: a, labels: {app: legacy}}, spec: {containers: [{name: a, image: x}]}, status: {podIP: 127.%[1]d.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: shop, namespace: b, labels: {app: shop}}, spec: {serviceAccountName: shop, containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}, status: {podIP: 127.%[1]d.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: b, labels: {app: db}}, spec: {serviceAccountName: db, containers: [{name: a, image: x, ports: [{containerPort: 18080}, {containerPort: 18081}]}, {name: istio-proxy, image: x}]}, status: {podIP: 127.%[1]d.0.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: old, namespace: b, labels: {app: old}}, spec: {containers: [{name: a, image: x, ports: [{containerPort: 18080}, {containerPort: 18081}]}]}, status: {podIP: 127.%[1]d.0.6}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: a}, spec: {clusterIP: 10.96.0.2, selector: {app: api}, ports: [{name: tcp-a, port: 80, targetPort: 18080}, {name: tcp-b, port: 81, targetPort: 18081}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: b}, spec: {clusterIP: 10.96.0.5, selector: {app: db}, ports: [{name: tcp-a, port: 80, targetPort: 18080}, {name: tcp-b, port: 81, targetPort: 18081}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: old, namespace: b}, spec: {clusterIP: 10.96.0.6, selector: {app: old}, ports: [{name: tcp-a, port: 80, targetPort: 18080}, {name: tcp-b, port: 81, targetPort: 18081}]}}
`

// slots are the objects that a case may have, each as somebody might write it.
var slots = []func(*rand.Rand) string{
	func(r *rand.Rand) string {
		return fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "{enableAutoMtls: %t, outboundTrafficPolicy: {mode: %s}}"}}`,
			r.IntN(2) == 0, pick(r, "ALLOW_ANY", "ALLOW_ANY", "REGISTRY_ONLY"))
	},
	func(r *rand.Rand) string { return peer("default", "istio-system", "", r) },
	func(r *rand.Rand) string { return peer("default", "a", "", r) },
	func(r *rand.Rand) string { return peer("default", "b", "", r) },
	func(r *rand.Rand) string {
		return peer("api", "a", fmt.Sprintf("selector: {matchLabels: {app: api}}, portLevelMtls: {18081: {mode: %s}}, ", serverMode(r)), r)
	},
	func(r *rand.Rand) string { return peer("db", "b", "selector: {matchLabels: {app: db}}, ", r) },
	func(r *rand.Rand) string { return legacy("Policy", "namespace: a, name: default", "", r) },
	func(r *rand.Rand) string {
		return legacy("Policy", "namespace: b, name: db", pick(r, "targets: [{name: db}], ", "targets: [{name: db, ports: [{number: 81}]}], "), r)
	},
	func(r *rand.Rand) string { return legacy("MeshPolicy", "name: default", "", r) },
	func(r *rand.Rand) string { return rule("a", "api", "api", "a", r) },
	func(r *rand.Rand) string { return rule("a", "db", "db.b.svc.cluster.local", "db", r) },
	func(r *rand.Rand) string { return rule("b", "db", "db", "db", r) },
	func(r *rand.Rand) string { return rule("b", "old", "old", "old", r) },
	func(r *rand.Rand) string {
		return rule("istio-system", "all", pick(r, "'*.cluster.local'", "'*.b.svc.cluster.local'"), "db", r)
	},
	func(r *rand.Rand) string { return authorization("a", r) },
	func(r *rand.Rand) string { return authorization("b", r) },
	func(r *rand.Rand) string { return authorization("istio-system", r) },
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func serverMode(r *rand.Rand) string {
	return pick(r, "STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET")
}

func peer(name, namespace, more string, r *rand.Rand) string {
	return fmt.Sprintf(`{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: %s, namespace: %s}, spec: {%smtls: {mode: %s}}}`, name, namespace, more, serverMode(r))
}

func legacy(kind, meta, more string, r *rand.Rand) string {
	return fmt.Sprintf(`{apiVersion: authentication.istio.io/v1alpha1, kind: %s, metadata: {%s}, spec: {%speers: [%s]}}`, kind, meta, more,
		pick(r, "{mtls: {}}", "{mtls: {mode: PERMISSIVE}}", ""))
}

func rule(namespace, name, host, account string, r *rand.Rand) string {
	tls := pick(r, "mode: ISTIO_MUTUAL", "mode: ISTIO_MUTUAL", "mode: DISABLE", "mode: SIMPLE", fmt.Sprintf("mode: ISTIO_MUTUAL, subjectAltNames: [%s]",
		pick(r, "'spiffe://cluster.local/ns/a/sa/other'", fmt.Sprintf("'spiffe://cluster.local/ns/b/sa/%s'", account))))
	policy := fmt.Sprintf("tls: {%s}", tls)
	if r.IntN(4) == 0 {
		policy += fmt.Sprintf(", portLevelSettings: [{port: {number: 81}, tls: {mode: %s}}]", pick(r, "DISABLE", "ISTIO_MUTUAL"))
	}
	return fmt.Sprintf(`{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: %s, namespace: %s}, spec: {host: %s, trafficPolicy: {%s}}}`, name, namespace, host, policy)
}

func authorization(namespace string, r *rand.Rand) string {
	action := pick(r, "ALLOW", "ALLOW", "DENY")
	rules := pick(r, "{}",
		"{from: [{source: {namespaces: [a]}}]}",
		"{from: [{source: {principals: ['cluster.local/ns/b/sa/shop']}}]}",
		"{from: [{source: {principals: ['*']}}]}",
		"{from: [{source: {ipBlocks: [NET.0.3]}}, {source: {namespaces: [b]}}]}",
		"{to: [{operation: {ports: ['18081']}}]}",
		"{from: [{source: {notNamespaces: [b]}}], to: [{operation: {ports: ['18080']}}]}",
		"{when: [{key: source.ip, values: [NET.3.0/24, NET.0.1]}]}")
	if action == "ALLOW" && r.IntN(8) == 0 {
		rules = "" // nobody
	}
	return fmt.Sprintf(`{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: few, namespace: %s}, spec: {action: %s, rules: [%s]}}`, namespace, action, rules)
}

// objects of a case: what is there, the candidate, and whether the candidate is
// deleted rather than applied.
func objects(r *rand.Rand, net int) (before, candidate []string, remove bool) {
	write := func(slot int) string {
		return strings.ReplaceAll(slots[slot](r), "NET", fmt.Sprintf("127.%d", net))
	}
	there := map[int]string{}
	for slot := range slots {
		if r.IntN(10) < 3 {
			there[slot] = write(slot)
			before = append(before, there[slot])
		}
	}
	remove = r.IntN(4) == 0 && len(there) > 0
	for _, slot := range r.Perm(len(slots)) {
		switch {
		case len(candidate) == 3 || len(candidate) > 0 && r.IntN(2) == 0:
			return before, candidate, remove
		case !remove:
			candidate = append(candidate, write(slot))
		case there[slot] != "":
			candidate = append(candidate, there[slot])
		}
	}
	return before, candidate, remove
}
