package exporter

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// passwordWait is how long a request waits until those of its address that came first are through.
	passwordWait = 5 * time.Second
	// wrongPassword is how long a wrong one keeps the next of its address waiting.
	wrongPassword = 500 * time.Millisecond
)

// Door keeps those who have no password from keeping out those who have one. exporter-toolkit checks passwords one at a time, at 0.1 s
// and more of CPU each (bcrypt), in the order of their requests, and remembers the last hundred, right or wrong: a few hundred wrong
// ones at once would be a queue longer than a scrape's timeout. So what comes over a connection over which somebody was let in before
// goes straight to the check, and of all others one request of an address at a time, with a pause after a wrong password.
type Door struct {
	connections *Connections

	mu    sync.Mutex
	queue map[netip.Prefix]*turnstile
}

// turnstile lets one request of an address through at a time.
type turnstile struct {
	free  chan struct{} // holds one
	users int           // in it or before it
}

// NewDoor makes the door of the server whose connections these are.
func NewDoor(c *Connections) *Door {
	return &Door{connections: c, queue: map[netip.Prefix]*turnstile{}}
}

type connectionKey struct{}

// Context makes the connection known to Outside and Inside (http.Server.ConnContext).
func (d *Door) Context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

func connectionOf(r *http.Request) net.Conn {
	conn, _ := r.Context().Value(connectionKey{}).(net.Conn)
	return conn
}

// passKey is that of what a request leaves the turnstile with.
type passKey struct{}

func passOf(r *http.Request) (leave func()) {
	leave, _ = r.Context().Value(passKey{}).(func())
	return leave
}

// Outside is what requests come to first. h checks the password, and hands on to Inside what it lets in.
func (d *Door) Outside(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := connectionOf(r)
		if conn == nil || d.connections.isKnown(conn) || passOf(r) != nil {
			h.ServeHTTP(w, r)
			return
		}
		leave := d.enter(r.Context(), addressOf(conn))
		if leave == nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests of this address wait for their password to be checked; try again later.", http.StatusTooManyRequests)
			return
		}
		defer func() { // without effect on a request that was let in: it has left
			if _, _, tried := r.BasicAuth(); tried {
				time.AfterFunc(wrongPassword, leave)
			} else {
				leave()
			}
		}()
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passKey{}, leave)))
	})
}

// Inside is what requests come to that were let in. Without Outside, where everybody is, a connection becomes known by a scrape, a request
// for the path given, once that is answered: what only holds connections open, or never reads, does not.
func (d *Door) Inside(h http.Handler, scrapes string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leave := passOf(r); leave != nil {
			d.connections.let(connectionOf(r))
			leave()
		}
		h.ServeHTTP(w, r)
		if conn := connectionOf(r); conn != nil && r.URL.Path == scrapes {
			d.connections.let(conn)
		}
	})
}

// enter waits for the turnstile of an address. It returns nil when there was no getting in. leave may be called more than once.
func (d *Door) enter(ctx context.Context, address netip.Prefix) (leave func()) {
	d.mu.Lock()
	t := d.queue[address]
	if t == nil {
		t = &turnstile{free: make(chan struct{}, 1)}
		d.queue[address] = t
	}
	t.users++
	d.mu.Unlock()
	gone := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(d.queue, address)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, passwordWait)
	defer cancel()
	select {
	case t.free <- struct{}{}:
		return sync.OnceFunc(func() { <-t.free; gone() })
	case <-ctx.Done():
		gone()
		return nil
	}
}
