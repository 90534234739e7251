// Package api serves as much of the Kubernetes API as kube-proxy and flannel ask for: get, list, watch and patch of
// objects kept in memory, as JSON. What they send besides (events) is accepted and thrown away.
package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Object is a Kubernetes object as JSON decodes it.
type Object = map[string]any

// Server holds the objects. The zero value is empty and ready.
type Server struct {
	mu      sync.Mutex
	version int
	kinds   map[string]*kind // by the resource's name in the path, as "nodes"
	changed chan struct{}    // closed and replaced with each change
}

// kind is one resource: its objects, and every change to them, which is what watches send.
type kind struct {
	objects map[string]Object
	events  []event
}

type event struct {
	version int
	Type    string `json:"type"`
	Object  Object `json:"object"`
}

// kindNames are the resources that are served. Any other is an empty list.
var kindNames = map[string]string{
	"nodes": "Node", "services": "Service", "endpoints": "Endpoints", "endpointslices": "EndpointSlice",
	"namespaces":   "Namespace",
	"servicecidrs": "ServiceCIDR", "pods": "Pod",
}

// Put adds or replaces an object. resource is its name in the path; metadata.name must be set.
func (s *Server) Put(resource string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(resource, o)
}

func (s *Server) put(resource string, o Object) {
	k := s.kind(resource)
	meta := section(o, "metadata")
	name := key(meta)
	s.version++
	meta["resourceVersion"] = strconv.Itoa(s.version)
	if meta["uid"] == nil {
		meta["uid"] = "uid-" + resource + "-" + name
	}
	what := "ADDED"
	if _, there := k.objects[name]; there {
		what = "MODIFIED"
	}
	k.objects[name] = o
	k.events = append(k.events, event{s.version, what, o})
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
}

func (s *Server) kind(resource string) *kind {
	if s.kinds == nil {
		s.kinds = map[string]*kind{}
	}
	if s.kinds[resource] == nil {
		s.kinds[resource] = &kind{objects: map[string]Object{}}
	}
	return s.kinds[resource]
}

func section(o Object, name string) Object {
	if o[name] == nil {
		o[name] = Object{}
	}
	return o[name].(Object)
}

func key(meta Object) string {
	if ns, _ := meta["namespace"].(string); ns != "" {
		return ns + "/" + meta["name"].(string)
	}
	return meta["name"].(string)
}

// request is what a path asks for.
type request struct {
	group, resource, name string
}

// parse reads /api/v1/…, /apis/GROUP/VERSION/…, with or without namespaces/NAME.
func parse(path string) (request, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var r request
	switch {
	case len(parts) > 2 && parts[0] == "api":
		r.group, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		r.group, parts = parts[1]+"/"+parts[2], parts[3:]
	default:
		return r, false
	}
	namespace := ""
	if len(parts) > 2 && parts[0] == "namespaces" {
		namespace, parts = parts[1]+"/", parts[2:]
	}
	r.resource = parts[0]
	if len(parts) > 1 {
		r.name = namespace + parts[1]
	}
	return r, true
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/version" {
		answer(w, http.StatusOK, Object{"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
		return
	}
	q, ok := parse(r.URL.Path)
	query := r.URL.Query()
	switch {
	case !ok:
		failure(w, http.StatusNotFound, "NotFound")
	case query.Get("sendInitialEvents") == "true": // a client that hears this lists and then watches
		failure(w, http.StatusUnprocessableEntity, "Invalid")
	case r.Method == http.MethodPatch:
		s.patch(w, r, q)
	case r.Method != http.MethodGet:
		answer(w, http.StatusCreated, Object{"apiVersion": q.group, "kind": "Status", "status": "Success"})
	case q.name != "":
		s.get(w, q)
	case query.Get("watch") == "true" || query.Get("watch") == "1":
		s.watch(w, r, q)
	default:
		s.list(w, q, query.Get("fieldSelector"))
	}
}

func (s *Server) get(w http.ResponseWriter, q request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.kind(q.resource).objects[q.name]
	if !ok {
		failure(w, http.StatusNotFound, "NotFound")
		return
	}
	answer(w, http.StatusOK, q.typed(o))
}

// typed returns a copy of an object with the type that the client asked for.
func (q request) typed(o Object) Object {
	c := maps.Clone(o)
	c["apiVersion"], c["kind"] = q.group, kindNames[q.resource]
	return c
}

func (s *Server) list(w http.ResponseWriter, q request, fields string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []Object{}
	k := s.kind(q.resource)
	for _, name := range slices.Sorted(maps.Keys(k.objects)) {
		if chosen(fields, name) {
			items = append(items, q.typed(k.objects[name]))
		}
	}
	answer(w, http.StatusOK, Object{
		"apiVersion": q.group, "kind": kindNames[q.resource] + "List", "items": items,
		"metadata": Object{"resourceVersion": strconv.Itoa(s.version)},
	})
}

// chosen reports whether an object passes a field selector; only metadata.name is known.
func chosen(selector, key string) bool {
	name, ok := strings.CutPrefix(selector, "metadata.name=")
	return !ok || name == key
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, q request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")) // "" is 0: all
	fields := r.URL.Query().Get("fieldSelector")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	for sent := 0; ; {
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		events, changed := s.kind(q.resource).events, s.changed
		s.mu.Unlock()
		for ; sent < len(events); sent++ {
			e := events[sent]
			if e.version <= from || !chosen(fields, key(section(e.Object, "metadata"))) {
				continue
			}
			e.Object = q.typed(e.Object)
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
			_ = flush()
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

// patch merges as RFC 7386 says, which is what a strategic merge does to maps.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, q request) {
	var change Object
	if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
		failure(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.kind(q.resource).objects[q.name]
	if !ok {
		failure(w, http.StatusNotFound, "NotFound")
		return
	}
	merged := merge(old, change).(Object)
	s.put(q.resource, merged)
	answer(w, http.StatusOK, q.typed(merged))
}

func merge(old, change any) any {
	fields, ok := change.(Object)
	if !ok {
		return change
	}
	was, _ := old.(Object)
	merged := maps.Clone(was)
	if merged == nil {
		merged = Object{}
	}
	for name, v := range fields {
		switch {
		case strings.HasPrefix(name, "$"): // directives of the strategic merge
		case v == nil:
			delete(merged, name)
		default:
			merged[name] = merge(was[name], v)
		}
	}
	return merged
}

func answer(w http.ResponseWriter, status int, o Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(o)
}

func failure(w http.ResponseWriter, status int, reason string) {
	answer(w, status, Object{
		"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": status,
		"message": fmt.Sprint("test API: ", reason),
	})
}
