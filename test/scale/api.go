package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiServer is as much of an API server as informers need: list, watch from a
// resource version on or with everything first, and the merge patch of a status.
type apiServer struct {
	url string
	end func()

	mu        sync.Mutex
	version   uint64
	resources map[string]*collection // by plural
	stopped   chan struct{}
}

// collection is the objects of one resource.
type collection struct {
	objects map[string]json.RawMessage // by NAMESPACE/NAME
	log     []event                    // since the first watch
	more    chan struct{}              // closed and replaced at each event
}

type event struct {
	version uint64
	key     string
	line    []byte // as it is on the wire
}

func newAPIServer() *apiServer {
	return &apiServer{resources: map[string]*collection{}, version: 1, stopped: make(chan struct{})}
}

func (a *apiServer) of(resource string) *collection {
	c := a.resources[resource]
	if c == nil {
		c = &collection{objects: map[string]json.RawMessage{}, more: make(chan struct{})}
		a.resources[resource] = c
	}
	return c
}

// next gives an object the next version. Callers hold mu.
func (a *apiServer) next(resource string, o metav1.Object) (key string, raw json.RawMessage, err error) {
	a.version++
	o.SetResourceVersion(strconv.FormatUint(a.version, 10))
	key = o.GetNamespace() + "/" + o.GetName()
	if raw, err = json.Marshal(o); err != nil {
		err = fmt.Errorf("%s %s: %w", resource, key, err)
	}
	return key, raw, err
}

// put creates or replaces an object.
func (a *apiServer) put(resource string, o metav1.Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, raw, err := a.next(resource, o)
	if err != nil {
		return err
	}
	c := a.of(resource)
	verb := "ADDED"
	if c.objects[key] != nil {
		verb = "MODIFIED"
	}
	c.objects[key] = raw
	c.tell(verb, a.version, key, raw)
	return nil
}

// remove an object.
func (a *apiServer) remove(resource string, o metav1.Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, raw, err := a.next(resource, o)
	if err != nil {
		return err
	}
	c := a.of(resource)
	delete(c.objects, key)
	c.tell("DELETED", a.version, key, raw)
	return nil
}

// tell those who watch.
func (c *collection) tell(verb string, version uint64, key string, raw json.RawMessage) {
	c.log = append(c.log, event{version, key, line(verb, raw)})
	close(c.more)
	c.more = make(chan struct{})
}

func line(verb string, raw json.RawMessage) []byte {
	return fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", verb, raw)
}

func (a *apiServer) reached() Reached { return Reached{URL: a.url} }

func (a *apiServer) close() {
	close(a.stopped)
	a.end()
}

func (a *apiServer) all(resource string) ([][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out [][]byte
	for _, raw := range a.of(resource).objects {
		out = append(out, raw)
	}
	return out, nil
}

// forget the events so far: nobody has watched yet.
func (a *apiServer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.resources {
		c.log = nil
	}
}

// ServeHTTP implements http.Handler.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	skip := 2 // api/v1
	if parts[0] == "apis" {
		skip = 3
	}
	if len(parts) <= skip {
		http.NotFound(w, r)
		return
	}
	apiVersion := strings.Join(parts[1:skip], "/")
	parts = parts[skip:]
	namespace := ""
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1], parts[2:]
	}
	switch {
	case r.Method == http.MethodPatch && len(parts) == 3 && parts[2] == "status":
		a.patchStatus(w, r, parts[0], namespace+"/"+parts[1])
	case r.Method != http.MethodGet || len(parts) != 1:
		http.Error(w, "this API server has lists, watches and statuses only", http.StatusMethodNotAllowed)
	case r.FormValue("watch") != "":
		a.watch(w, r, parts[0], namespace)
	default:
		a.list(w, parts[0], namespace, apiVersion)
	}
}

func (a *apiServer) list(w http.ResponseWriter, resource, namespace, apiVersion string) {
	a.mu.Lock()
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"kind":"List","apiVersion":%q,"metadata":{"resourceVersion":"%d"},"items":[`, apiVersion, a.version)
	first := true
	for key, raw := range a.of(resource).objects {
		if !within(key, namespace) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.Write(raw)
	}
	a.mu.Unlock()
	b.WriteString("]}")
	w.Header().Set("Content-Type", "application/json")
	w.Write(b.Bytes())
}

func within(key, namespace string) bool {
	return namespace == "" || strings.HasPrefix(key, namespace+"/")
}

// watch from a version on; with sendInitialEvents everything first, and a
// bookmark that says so.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	from, _ := strconv.ParseUint(r.FormValue("resourceVersion"), 10, 64)
	var begin bytes.Buffer
	a.mu.Lock()
	c := a.of(resource)
	if r.FormValue("sendInitialEvents") == "true" {
		from = a.version
		for key, raw := range c.objects {
			if within(key, namespace) {
				begin.Write(line("ADDED", raw))
			}
		}
		begin.Write(bookmark(r.URL.Path, resource, a.version))
	}
	next := 0
	a.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	ctrl := http.NewResponseController(w)
	if _, err := w.Write(begin.Bytes()); err != nil || ctrl.Flush() != nil {
		return
	}
	for {
		a.mu.Lock()
		news, more := c.log[next:], c.more
		next = len(c.log)
		a.mu.Unlock()
		for _, e := range news {
			if e.version <= from || !within(e.key, namespace) {
				continue
			}
			if _, err := w.Write(e.line); err != nil {
				return
			}
		}
		if ctrl.Flush() != nil {
			return
		}
		select {
		case <-more:
		case <-a.stopped:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// bookmark ends the initial events. It is of the kind that is watched; that it
// is named in the path's plural does not matter to an informer that takes
// unstructured objects.
func bookmark(path, resource string, version uint64) []byte {
	apiVersion := "v1"
	if rest, ok := strings.CutPrefix(path, "/apis/"); ok {
		parts := strings.SplitN(rest, "/", 3)
		apiVersion = parts[0] + "/" + parts[1]
	}
	raw, _ := json.Marshal(map[string]any{"kind": resource, "apiVersion": apiVersion, "metadata": map[string]any{
		"resourceVersion": strconv.FormatUint(version, 10), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}})
	return line("BOOKMARK", raw)
}

func (a *apiServer) patchStatus(w http.ResponseWriter, r *http.Request, resource, key string) {
	var patch struct {
		Status json.RawMessage `json:"status"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&patch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.of(resource)
	var o map[string]json.RawMessage
	if raw := c.objects[key]; raw == nil || json.Unmarshal(raw, &o) != nil {
		http.NotFound(w, r)
		return
	}
	var meta map[string]any
	if err := json.Unmarshal(o["metadata"], &meta); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.version++
	meta["resourceVersion"] = strconv.FormatUint(a.version, 10)
	o["metadata"], _ = json.Marshal(meta)
	o["status"] = patch.Status
	raw, _ := json.Marshal(o)
	c.objects[key] = raw
	c.tell("MODIFIED", a.version, key, raw)
	w.Header().Set("Content-Type", "application/json")
	w.Write(raw)
}
