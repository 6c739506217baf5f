// Package metrics is the rung where Debian's Prometheus scrapes the sidecars, and
// the questions that Kiali and Istio's Grafana dashboards ask of it have the right
// answers. They are asked by promtool, in a pod.
package metrics

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"hasp/test/meshtest"
)

//go:embed testdata/shop.yaml
var shop string

// buy is what a client runs, once somebody scrapes it: at a pace at which every
// counter is seen more than once.
const buy = `
until curl -sgf 'http://prometheus:9090/api/v1/query?query=sum(up)' | grep '"2"'; do sleep 0.2; done
for i in $(seq $PAGES); do curl -s http://web:8080/; sleep 0.3; done
for i in $(seq $MISSING); do curl -s http://web:8080/missing; sleep 0.3; done
for i in $(seq $RAW); do curl -s http://web:9000/; sleep 0.3; done
exec sleep 3600`

const (
	web   = `destination_service="web.shop.svc.cluster.local"`
	buyer = `source_workload="buyer"`
)

// Kiali's traffic graph groups by these.
// https://kiali.io/docs/faq/general/#what-istio-metrics-does-kiali-need
const kiali = "source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision," +
	"destination_cluster,destination_service_namespace,destination_service,destination_service_name," +
	"destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision"

const kialiEdge = "Kubernetes shop buyer buyer latest Kubernetes shop web.shop.svc.cluster.local web shop web-v2 web v2"

// question is a query and the answer that is expected: a line for each series,
// its label values in the order of by, then the value unless any will do.
type question struct {
	name, query string
	by          string
	any         bool // above zero
	want        []string
}

var questions = []question{
	{"requests, as the client counts them", `sum by (response_code, connection_security_policy) (istio_requests_total{reporter="source",` + web + `,` + buyer + `})`,
		"response_code,connection_security_policy", false, []string{"200 mutual_tls 20", "404 mutual_tls 10"}},
	{"requests, as the server counts them", `sum by (source_workload, source_principal, response_code, connection_security_policy) (istio_requests_total{reporter="destination",` + web + `})`,
		"source_workload,source_principal,response_code,connection_security_policy", false, []string{
			"buyer spiffe://cluster.local/ns/shop/sa/default 200 mutual_tls 20",
			"buyer spiffe://cluster.local/ns/shop/sa/default 404 mutual_tls 10",
			"stranger unknown 200 none 15"}},
	{"Kiali: the graph's HTTP edges", `sum(rate(istio_requests_total{reporter="source",source_workload_namespace="shop",` + web + `}[5m])) by (` + kiali + `,request_protocol,response_code,grpc_response_status,response_flags) > 0`,
		kiali + ",request_protocol,response_code,response_flags", true, []string{kialiEdge + " http 200 -", kialiEdge + " http 404 -"}},
	{"Kiali: the graph's TCP edges", `sum(rate(istio_tcp_sent_bytes_total{reporter="source",source_workload_namespace="shop",` + web + `}[5m])) by (` + kiali + `,request_protocol,response_flags) > 0`,
		kiali + ",request_protocol", true, []string{kialiEdge + " tcp"}},
	{"Kiali: the padlocks", `sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="shop",` + web + `}[5m])) by (source_workload,source_principal,destination_principal,connection_security_policy) > 0`,
		"source_workload,destination_principal,connection_security_policy", true, []string{
			"buyer spiffe://cluster.local/ns/shop/sa/default mutual_tls", "stranger unknown none"}},
	{"Kiali: the padlocks of TCP", `sum by (source_workload,connection_security_policy) (istio_tcp_connections_opened_total{reporter="destination",` + web + `,request_protocol="tcp"})`,
		"source_workload,connection_security_policy", false, []string{"buyer mutual_tls 10"}},
	{"Kiali: response times", `histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{reporter="source",` + web + `}[5m])) by (le,source_workload,destination_service_name)) > 0`,
		"source_workload,destination_service_name", true, []string{"buyer web"}},
	{"Grafana: global success rate", `sum(increase(istio_requests_total{reporter="source",response_code!~"4.*",` + web + `}[5m])) / sum(increase(istio_requests_total{reporter="source",` + web + `}[5m])) < 1`,
		"", true, []string{""}},
	{"Grafana: the service's workloads", `label_join(sum(rate(istio_requests_total{reporter="source",response_code="200",` + web + `}[5m])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace") > 0`,
		"destination_workload_var", true, []string{"web-v2.shop"}},
	{"Grafana: incoming requests by mutual TLS or not", `round(sum(irate(istio_requests_total{connection_security_policy="mutual_tls",destination_service=~"web.shop.svc.cluster.local",reporter=~"destination"}[5m])) by (source_workload, source_workload_namespace, response_code), 0.001) >= 0`,
		"source_workload,source_workload_namespace,response_code", true, []string{"buyer shop 200", "buyer shop 404"}},
	{"Grafana: request size", `histogram_quantile(0.50, sum(rate(istio_request_bytes_bucket{reporter="destination",connection_security_policy!="mutual_tls",` + web + `}[5m])) by (source_workload, le)) > 0`,
		"source_workload", true, []string{"stranger"}},
	{"Grafana: response size", `histogram_quantile(0.50, sum(rate(istio_response_bytes_bucket{reporter="destination",connection_security_policy="mutual_tls",` + web + `}[5m])) by (source_workload, le)) > 0`,
		"source_workload", true, []string{"buyer"}},
	{"both ends count the same", `sum(istio_requests_total{reporter="source",` + web + `,` + buyer + `}) - sum(istio_requests_total{reporter="destination",` + web + `,` + buyer + `})`,
		"", false, []string{"0"}},
	{"scraping works everywhere", `count(up{job="sidecars"} == 1)`, "", false, []string{"2"}},
}

func TestPrometheus(t *testing.T) {
	meshtest.Need(t, "prometheus", "promtool", "python3", "curl")
	m := meshtest.Start(t, meshtest.Options{User: meshtest.Ordinary()})
	script, err := json.Marshal(buy)
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(t, strings.ReplaceAll(shop, "-c, BUY", "-c, "+string(script)))
	m.Available(t)
	m.Apply(t, prometheus(t, m))

	ask := `for q; do promtool query instant -o json http://prometheus:9090 "$q" || echo null; done`
	command := []string{"sh", "-c", ask, "sh"}
	for _, q := range questions {
		command = append(command, q.query)
	}
	round, said := 0, ""
	defer func() {
		if t.Failed() {
			t.Log(said)
		}
	}()
	meshtest.Eventually(t, 5*time.Minute, "the right answers", func() bool {
		round++
		r := m.Client(t, meshtest.Client{Name: fmt.Sprint("ask-", round), Command: command})
		said = wrong(r.Output())
		return said == ""
	})
	t.Logf("%d questions answered right", len(questions))
}

// prometheus is a pod with it, told where the sidecars are.
func prometheus(t *testing.T, m *meshtest.Mesh) string {
	t.Helper()
	var targets []string
	for _, app := range []string{"web", "buyer"} {
		for _, p := range m.Pods(t, "-l", "app="+app) {
			targets = append(targets, net.JoinHostPort(p.IPs[0].String(), "15090"))
		}
	}
	config, err := json.Marshal(map[string]any{
		"global": map[string]string{"scrape_interval": "1s"},
		"scrape_configs": []any{map[string]any{
			"job_name": "sidecars", "metrics_path": "/stats/prometheus", "static_configs": []any{map[string]any{"targets": targets}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "prometheus", "labels": map[string]string{"app": "prometheus"}},
		"spec": map[string]any{"terminationGracePeriodSeconds": 1, "containers": []any{map[string]any{
			"name": "prometheus", "image": meshtest.Image,
			"command": []string{"sh", "-c", `printf %s "$CONFIG" >p.yml && exec prometheus --config.file=p.yml --storage.tsdb.path=data --web.listen-address=:9090`},
			"env":     []any{map[string]string{"name": "CONFIG", "value": string(config)}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(pod)
}

// wrong is what of the answers is not as expected.
func wrong(output string) string {
	var out strings.Builder
	dec := json.NewDecoder(strings.NewReader(output))
	for _, q := range questions {
		var series []struct {
			Metric map[string]string
			Value  [2]any
		}
		if err := dec.Decode(&series); err != nil {
			fmt.Fprintf(&out, "%s: %v in\n%s\n", q.name, err, output)
			return out.String()
		}
		var got []string
		for _, s := range series {
			var line []string
			for label := range strings.SplitSeq(q.by, ",") {
				line = append(line, s.Metric[label])
			}
			if !q.any {
				line = append(line, fmt.Sprint(s.Value[1]))
			}
			got = append(got, strings.TrimSpace(strings.Join(line, " ")))
		}
		slices.Sort(got)
		if !slices.Equal(got, q.want) {
			fmt.Fprintf(&out, "%s:\n  got  %q\n  want %q\n", q.name, got, q.want)
		}
	}
	return out.String()
}
