package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// client is a connection of a client that sends nothing by itself.
type client struct {
	net.Conn
	address string
	closed  bool
}

func (c *client) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.address), Port: 40000} }
func (c *client) Close() error         { c.closed = true; return nil }

// checkTime is what a password costs that is not remembered.
const checkTime = 100 * time.Millisecond

// site is a server behind a door, whose passwords are checked as exporter-toolkit does it: one at a time, first come, first served.
type site struct {
	connections *Connections
	door        *Door
	handler     http.Handler
	checks      int
	queue       chan struct{}
}

func newSite() *site {
	s := &site{connections: NewConnections(256, slog.New(slog.DiscardHandler)), queue: make(chan struct{}, 1)}
	s.door = NewDoor(s.connections)
	s.handler = s.door.Outside(s.check(s.door.Inside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(time.Hour)
		}
		fmt.Fprint(w, "ok")
	}), "/metrics")))
	return s
}

func (s *site) check(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, there := r.BasicAuth()
		if !there {
			http.Error(w, "no password", http.StatusUnauthorized)
			return
		}
		s.queue <- struct{}{}
		s.checks++
		time.Sleep(checkTime)
		<-s.queue
		switch password {
		case "right":
			h.ServeHTTP(w, r)
		case "panic":
			panic(http.ErrAbortHandler)
		default:
			http.Error(w, "wrong password", http.StatusUnauthorized)
		}
	})
}

// connect makes a connection from an address.
func (s *site) connect(address string) *client {
	c := &client{address: address}
	s.connections.Follow(c, http.StateNew)
	return c
}

// ask makes a request over a connection and returns the status and how long it took.
func (s *site) ask(c *client, path, password string) (status int, took time.Duration) {
	start := time.Now()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if password != "" {
		r.SetBasicAuth("somebody", password)
	}
	w := httptest.NewRecorder()
	func() {
		defer func() { _ = recover() }()
		s.handler.ServeHTTP(w, r.WithContext(s.door.Context(context.Background(), c)))
	}()
	return w.Code, time.Since(start)
}

// addresses is of how many requests are in the turnstile, or wait.
func (d *Door) addresses() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

func TestGuessersKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		known := s.connect("192.0.2.1")
		if status, _ := s.ask(known, "/", "right"); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		s.checks = 0
		var wg sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		for i := range 250 {
			wg.Go(func() {
				status, took := s.ask(s.connect("192.0.2.1"), "/", fmt.Sprint("guess ", i))
				mu.Lock()
				defer mu.Unlock()
				statuses[status]++
				if took > passwordWait+checkTime {
					t.Errorf("%s for a wrong password", took)
				}
			})
		}
		synctest.Wait()
		for who, c := range map[string]*client{"known": known, "of another address": s.connect("192.0.2.2"), "of another network": s.connect("2001:db8::1")} {
			wg.Go(func() {
				if status, took := s.ask(c, "/", "right"); status != http.StatusOK || took > 4*checkTime {
					t.Errorf("%s: status %d after %s", who, status, took)
				}
			})
		}
		wg.Wait()
		if n := statuses[http.StatusUnauthorized]; n < 5 || n > 10 || statuses[http.StatusTooManyRequests] != 250-n || s.checks != n+3 {
			t.Errorf("statuses %v after %d checks", statuses, s.checks)
		}
		time.Sleep(2 * wrongPassword)
		if n := s.door.addresses(); n != 0 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// Whoever is let in keeps nobody waiting, however long the answer takes, and neither does who tries without a password or panics.
func TestDoorStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		var wg sync.WaitGroup
		wg.Go(func() { s.ask(s.connect("192.0.2.1"), "/slow", "right") })
		time.Sleep(2 * checkTime)
		for _, tt := range []struct {
			password string
			status   int
			took     time.Duration
		}{
			{"right", http.StatusOK, checkTime},
			{"", http.StatusUnauthorized, 0},
			{"right", http.StatusOK, checkTime},
			{"wrong", http.StatusUnauthorized, checkTime},
			{"panic", http.StatusOK, wrongPassword + checkTime}, // the status is the recorder's own
			{"right", http.StatusOK, wrongPassword + checkTime},
		} {
			if status, took := s.ask(s.connect("192.0.2.1"), "/", tt.password); status != tt.status || took != tt.took {
				t.Errorf("password %q: status %d after %s, want %d after %s", tt.password, status, took, tt.status, tt.took)
			}
		}
		wg.Wait()
		if n := s.door.addresses(); n != 0 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// With several listeners exporter-toolkit checks passwords once for each.
func TestDoorBehindDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.handler = s.door.Outside(s.check(s.handler))
		if status, took := s.ask(s.connect("192.0.2.1"), "/", "right"); status != http.StatusOK || took != 2*checkTime {
			t.Errorf("status %d after %s", status, took)
		}
	})
}

// A client that hangs up while it waits leaves its place.
func TestHangingUpBeforeTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDoor(nil)
		address := addressOf(&client{address: "192.0.2.1"})
		leave := d.enter(t.Context(), address)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if d.enter(ctx, address) != nil {
			t.Error("two at a time")
		}
		leave()
		leave()
		if n := d.addresses(); n != 0 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// Strangers and those that were let in close each other's connections only where they have more than half of all.
func TestStrangersCloseStrangers(t *testing.T) {
	const limit = 8
	c := NewConnections(limit, slog.New(slog.DiscardHandler))
	connect := func(n int, address string, known bool) (all []*client) {
		for range n {
			conn := &client{address: address}
			all = append(all, conn)
			c.Follow(conn, http.StateNew)
			if known {
				c.let(conn)
			}
		}
		return all
	}
	closed := func(all []*client) (n int) {
		for _, conn := range all {
			if conn.closed {
				n++
			}
		}
		return n
	}
	known := connect(3, "192.0.2.1", true)
	honest := connect(1, "192.0.2.2", false)
	crowd := connect(100, "192.0.2.1", false)
	if closed(known) != 0 || closed(honest) != 0 || closed(crowd) != 96 || closed(crowd[96:]) != 0 {
		t.Errorf("closed: %d known, %d of another address, %d of the crowd", closed(known), closed(honest), closed(crowd))
	}
	// Whoever is let in does not take all of the room either: half, and the one that was a stranger while room was made for it.
	let := connect(100, "192.0.2.1", true)
	if closed(honest) != 0 || closed(crowd) != 98 || closed(append(let, known...)) != 98 {
		t.Errorf("closed: %d of another address, %d of the crowd, %d known", closed(honest), closed(crowd), closed(append(let, known...)))
	}
	if len(c.open) != limit || c.strange != limit/2-1 || len(c.origins) != 2 {
		t.Errorf("%d connections, %d of strangers, %d addresses", len(c.open), c.strange, len(c.origins))
	}
	for conn := range c.open {
		c.Follow(conn, http.StateClosed)
		c.Follow(conn, http.StateClosed)
	}
	if len(c.open) != 0 || c.strange != 0 || len(c.origins) != 0 {
		t.Errorf("remembered: %d connections, %d of strangers, %v", len(c.open), c.strange, c.origins)
	}
}

// Where there are no passwords, a connection over which a scrape was answered outlives a flood from its own address.
func TestScrapedConnectionStays(t *testing.T) {
	c := NewConnections(8, slog.New(slog.DiscardHandler))
	d := NewDoor(c)
	h := d.Inside(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "/metrics")
	asked := func(path string) *client {
		conn := &client{address: "192.0.2.1"}
		c.Follow(conn, http.StateNew)
		c.Follow(conn, http.StateActive)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil).WithContext(d.Context(t.Context(), conn)))
		c.Follow(conn, http.StateIdle)
		return conn
	}
	scraper, other := asked("/metrics"), asked("/-/healthy")
	for range 100 {
		asked("/")
	}
	if scraper.closed || !other.closed {
		t.Errorf("closed: the scraper %v, another %v", scraper.closed, other.closed)
	}
	// Scrapers have half of the room, not all.
	late := asked("/")
	for range 100 {
		asked("/metrics")
	}
	if !scraper.closed || late.closed {
		t.Errorf("closed by scrapers: the first %v, what made another request %v", scraper.closed, late.closed)
	}
}

func TestAddressOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8::1": "2001:db8::/64", "": "invalid Prefix",
	} {
		if got := addressOf(&client{address: address}); got.String() != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
	}
	if got := addressOf(&unix{}); got.IsValid() {
		t.Errorf("a connection without an address: %s", got)
	}
}

type unix struct{ net.Conn }

func (*unix) RemoteAddr() net.Addr { return &net.UnixAddr{} }
