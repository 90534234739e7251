package exporter

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// held is a page that is rendered as long as the test wants.
func held(c *Config) (begun chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 100), make(chan struct{})
	c.Page = func(w http.ResponseWriter, _, _ *Observation) {
		begun <- struct{}{}
		<-gate
		fmt.Fprint(w, "page")
	}
	return begun, sync.OnceFunc(func() { close(gate) })
}

func TestAnswersAreRenderedInTurn(t *testing.T) {
	var begun chan struct{}
	var release func()
	_, h := newServer(t, func(c *Config) {
		c.MaxRequests, c.TimeoutOffset = 2, 20*time.Millisecond
		begun, release = held(c)
	})
	t.Cleanup(release)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if status, body, _ := get(t, h.URL+"/"); status != 200 || body != "page" {
				t.Errorf("within the limit: %d %q", status, body)
			}
		})
	}
	<-begun
	<-begun
	status, body, header := get(t, h.URL+"/metrics", timeoutHeader, "0.2")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "Limit of 2") || header.Get("Retry-After") == "" {
		t.Errorf("no turn came: %d %q", status, body)
	}
	if status, _, _ := get(t, h.URL+"/-/healthy"); status != 200 {
		t.Errorf("health while the limit is reached: %d", status)
	}
	wg.Go(func() {
		if status, body, _ := get(t, h.URL+"/metrics"); status != 200 || !strings.Contains(body, "vxlan_") {
			t.Errorf("its turn came: %d %q", status, body)
		}
	})
	time.Sleep(50 * time.Millisecond) // most likely it waits by now
	release()
	wg.Wait()
}

// Who waits for a look that hangs takes no turn: a hung collector refuses nobody.
func TestWaitingForTheLookTakesNoTurn(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, h := newServer(t, func(c *Config) { c.MaxRequests = 1 }, &fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
		<-release
		return nil, nil
	}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			status, body, _ := get(t, h.URL+"/metrics", timeoutHeader, "1")
			if status != 200 || !strings.Contains(body, `vxlan_scrape_collector_success{collector="hung"} 0`) {
				t.Errorf("%d %q", status, body)
			}
		})
	}
	wg.Wait()
}

// dial sends a request and does not read the answer. The connection takes in as little as the system allows.
func dial(t *testing.T, address, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Clients that do not read hold up nobody, and the answers that wait for them are bounded: the oldest is given up for the next.
func TestSlowReaders(t *testing.T) {
	const size = 16 << 20 // more than the socket's buffers take in
	var large atomic.Bool
	s, h := newServer(t, func(c *Config) {
		c.MaxRequests = 1
		c.Page = func(w http.ResponseWriter, _, _ *Observation) {
			if large.Load() {
				w.Write(make([]byte, size))
				return
			}
			fmt.Fprint(w, "x")
		}
	})
	s.outbox.limit = 3 * size
	large.Store(true)
	var newest *letter
	for i := range 5 {
		dial(t, h.Listener.Addr().String(), "/")
		waitFor(t, "answer on its way", func() bool {
			letters := s.outbox.letters()
			if len(letters) != min(i+1, 3) || letters[len(letters)-1] == newest {
				return false
			}
			newest = letters[len(letters)-1]
			return true
		})
	}
	large.Store(false)
	if status, body, _ := get(t, h.URL+"/"); status != 200 || body != "x" {
		t.Errorf("beside slow readers: %d %q", status, body)
	}
	h.CloseClientConnections()
	waitFor(t, "empty outbox", func() bool { return len(s.outbox.letters()) == 0 && s.outbox.unsent == 0 })
}

func (o *outbox) letters() []*letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.sending)
}

func waitFor(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after 10 s", what)
		}
	}
}

func TestHeadHasNoBody(t *testing.T) {
	_, h := newServer(t, nil)
	resp, err := http.Head(h.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || len(b) > 0 || err != nil || resp.ContentLength <= 0 {
		t.Errorf("%s, %d bytes of %d, %v", resp.Status, len(b), resp.ContentLength, err)
	}
}

// A renderer that panics costs its own answer and gives its turn back.
func TestPanicGivesTheTurnBack(t *testing.T) {
	s, _ := newServer(t, func(c *Config) { c.MaxRequests = 1 })
	for range 3 {
		func() {
			defer func() { _ = recover() }()
			s.answer(t.Context(), httptest.NewRecorder(), func(http.ResponseWriter) { panic("no") })
		}()
	}
	w := httptest.NewRecorder()
	s.answer(t.Context(), w, func(w http.ResponseWriter) { fmt.Fprint(w, "yes") })
	if w.Code != 200 || w.Body.String() != "yes" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
