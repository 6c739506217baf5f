package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"hasp/mesh"
)

// agentForm is how a kubelet names itself. Most proxies are never asked.
var agentForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^kube-probe/[0-9]{1,4}\.[0-9]{1,4}\+?$`)
})

// httpQuestion is an HTTP probe as it looks on the wire.
type httpQuestion struct {
	probe  mesh.Probe
	target string      // of the request line
	header http.Header // what the pod declares, without Host
	// nameless is set when the pod declares an empty User-Agent: kubelets then
	// send none.
	nameless bool
	slots    slots
}

// newHTTPQuestion makes of a probe what a kubelet makes of it.
// https://github.com/kubernetes/kubernetes/blob/v1.37.0/pkg/probe/http/request.go
func newHTTPQuestion(d mesh.Probe) (*httpQuestion, error) {
	u, err := url.Parse(d.Path)
	if err != nil {
		u = &url.URL{Path: d.Path}
	}
	u.Scheme, u.Host = "http", "pod"
	if u, err = url.Parse(u.String()); err != nil {
		return nil, fmt.Errorf("path %q: %w", d.Path, err)
	}
	q := &httpQuestion{probe: d, target: u.RequestURI(), header: make(http.Header), slots: make(slots, askAtOnce)}
	for _, h := range d.Headers {
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) {
			return nil, fmt.Errorf("header %q: no HTTP header, and no kubelet can send it", h.Name)
		}
		q.header.Add(h.Name, textproto.TrimString(h.Value))
	}
	// net/http sends these by its own account, whatever the pod declares, and
	// the first two not at all when they are empty.
	_, q.nameless = q.header["User-Agent"]
	q.nameless = q.nameless && q.header.Get("User-Agent") == ""
	for _, name := range []string{"User-Agent", "Accept"} {
		if q.header.Get(name) == "" {
			q.header.Del(name)
		}
	}
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Trailer"} {
		q.header.Del(name)
	}
	return q, nil
}

// String names the probe for the log.
func (q *httpQuestion) String() string {
	return fmt.Sprintf("%s probe GET %s", strings.ToUpper(string(q.probe.Kind)), q.target)
}

func (q *httpQuestion) line() string { return "GET " + q.target + " HTTP/1.1\r\n" }

var headEnd = []byte("\r\n\r\n")

// scanHTTP tells whether bytes are a whole request head for one of the
// questions; what the headers say is for matchHTTP. A client is let go at the
// first byte that is none of theirs.
func scanHTTP(questions []*httpQuestion, b []byte) progress {
	for _, q := range questions {
		line := q.line()
		n := min(len(line), len(b))
		switch {
		case string(b[:n]) != line[:n]:
		case bytes.Contains(b, headEnd):
			return whole
		default:
			return more
		}
	}
	return never
}

// matchHTTP is the question that a request head asks, and the name the kubelet
// gave itself, or nil. The head must be what a kubelet sends for that probe,
// header for header, and nothing may follow it.
func matchHTTP(questions []*httpQuestion, head []byte, dst netip.AddrPort) (q *httpQuestion, agent string) {
	lines, ok := strings.CutSuffix(string(head), "\r\n\r\n")
	if !ok || scanHTTP(questions, head) != whole {
		return nil, ""
	}
	first, rest, _ := strings.Cut(lines, "\r\n")
	header := parseHeader(rest)
	if header == nil {
		return nil, ""
	}
	for _, q := range questions {
		if first+"\r\n" == q.line() && q.asked(header, dst) {
			return q, header.Get("User-Agent")
		}
	}
	return nil, ""
}

// parseHeader reads header lines strictly (RFC 9112, section 5); nil when they
// are not so.
func parseHeader(lines string) http.Header {
	h := make(http.Header)
	for line := range strings.SplitSeq(lines, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil
		}
		h.Add(name, value)
	}
	return h
}

// asked tells whether a request with the question's request line and this
// header is the question: all that the pod declares, and of the rest only what
// a kubelet adds.
func (q *httpQuestion) asked(got http.Header, dst netip.AddrPort) bool {
	for name := range q.header {
		if _, ok := got[name]; !ok {
			return false
		}
	}
	if len(got["Host"]) != 1 || len(got["User-Agent"]) == 0 && !q.nameless {
		return false
	}
	for name, values := range got {
		declared, isDeclared := q.header[name]
		if name == "Connection" && len(values) > len(declared) && values[len(values)-1] == "close" {
			values = values[:len(values)-1] // a kubelet's own: it keeps no connection
		}
		if !slices.Equal(values, declared) && (isDeclared || !q.added(name, values, dst)) {
			return false
		}
	}
	return true
}

// added tells whether a header is one that a kubelet adds of its own.
func (q *httpQuestion) added(name string, values []string, dst netip.AddrPort) bool {
	if len(values) != 1 {
		return false
	}
	switch v := values[0]; name {
	case "Host":
		return q.isHost(v, dst)
	case "User-Agent":
		return agentForm().MatchString(v)
	case "Accept":
		return v == "*/*"
	}
	return false
}

// isHost tells whether a Host header is the probe's: the declared one, with or
// without the port, or else the address that was dialled.
func (q *httpQuestion) isHost(host string, dst netip.AddrPort) bool {
	if q.probe.Host == "" {
		return host == dst.String()
	}
	return host == q.probe.Host || host == q.probe.Host+":"+strconv.Itoa(int(dst.Port()))
}
