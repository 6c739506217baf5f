// Package trace passes on the headers by which a tracing system joins the
// requests that one request causes. The mesh cannot do this by itself: only the
// app knows which call belongs to which request.
package trace

import "net/http"

// headers are the ones that are passed on: W3C Trace Context, B3 in one header
// and in several, Envoy's request id and OpenTracing's context.
var headers = []string{
	"Traceparent", "Tracestate",
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags",
	"X-Request-Id", "X-Ot-Span-Context",
}

// Forward copies the tracing headers of the request that came in, and its user
// agent, to one that goes out because of it.
func Forward(out, in http.Header) {
	for _, name := range headers {
		if values := in.Values(name); len(values) > 0 {
			out[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
		}
	}
	// Without one, net/http would name itself; an empty one is left out.
	out.Set("User-Agent", in.Get("User-Agent"))
}
