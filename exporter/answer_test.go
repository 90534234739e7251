package exporter

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// held is a page that is rendered as long as the test wants.
func held(c *Config) (begun chan struct{}, release func()) {
	begun, gate := make(chan struct{}, 100), make(chan struct{})
	c.Page = func(w http.ResponseWriter, _ *Observation) {
		begun <- struct{}{}
		<-gate
		fmt.Fprint(w, "page")
	}
	return begun, sync.OnceFunc(func() { close(gate) })
}

func TestAnswersRenderedAtOnceAreBounded(t *testing.T) {
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
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "Limit of 2") ||
		header.Get("Retry-After") == "" {
		t.Errorf("beyond the limit: %d %q", status, body)
	}
	if status, _, _ := get(t, h.URL+"/-/healthy"); status != 200 {
		t.Errorf("health while the limit is reached: %d", status)
	}
	wg.Go(func() {
		if status, body, _ := get(t, h.URL+"/metrics"); status != 200 || !strings.Contains(body, "vxlan_") {
			t.Errorf("below the limit again: %d %q", status, body)
		}
	})
	time.Sleep(50 * time.Millisecond) // most likely it waits by now
	release()
	wg.Wait()
}

// A scrape that waits for its observation does not count as rendered: a hung collector makes no scrape fail.
func TestHungCollectorDoesNotReachTheLimit(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, h := newServer(t, func(c *Config) { c.MaxRequests = 1 },
		&fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
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

// Clients that do not read keep nobody from being answered as long as what waits for them is within the bound, and
// are given up in time.
func TestSlowReaders(t *testing.T) {
	size := maxUnsent / 2 // more than the socket's buffers hold
	s, h := newServer(t, func(c *Config) {
		c.MaxRequests = 1
		c.Page = func(w http.ResponseWriter, _ *Observation) { w.Write(make([]byte, size)) }
	})
	for i := range 2 {
		dial(t, h.Listener.Addr().String(), "/")
		waitFor(t, "answer that is being sent", func() bool { return s.unsent.Load() == int64((i+1)*size) })
	}
	if status, body, header := get(t, h.URL+"/"); status != http.StatusServiceUnavailable ||
		header.Get("Retry-After") == "" || len(body) > 100 {
		t.Errorf("beyond the bound: %d, %d bytes", status, len(body))
	}
	if status, _, _ := get(t, h.URL+"/-/healthy"); status != 200 {
		t.Errorf("health beside slow readers: %d", status)
	}
	h.CloseClientConnections()
	waitFor(t, "end of sending", func() bool { return s.unsent.Load() == 0 })
	if status, body, _ := get(t, h.URL+"/"); status != 200 || len(body) != size {
		t.Errorf("afterwards: %d, %d bytes", status, len(body))
	}
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
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || len(b) > 0 || err != nil ||
		resp.ContentLength <= 0 {
		t.Errorf("%s, %d bytes of %d, %v", resp.Status, len(b), resp.ContentLength, err)
	}
}

// A renderer that panics costs its own answer and no other.
func TestPanicWhileRendering(t *testing.T) {
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
