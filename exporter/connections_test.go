package exporter

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// limited is a server that holds a few connections; /hold is answered when the test ends.
func limited(t *testing.T, limit int, start func(*httptest.Server)) (*httptest.Server, *Connections, *logBuffer, func()) {
	t.Helper()
	var log logBuffer
	c := NewConnections(limit, slog.New(slog.NewTextHandler(&log, nil)))
	gate := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/hold", func(http.ResponseWriter, *http.Request) { <-gate })
	h := httptest.NewUnstartedServer(mux)
	h.Config.ConnState = c.Follow
	start(h)
	release := func() { close(gate) }
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return h, c, &log, release
}

func connect(t *testing.T, h *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// closed tells whether the server has closed the connection; open connections have nothing to read.
func closed(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // of this very read
		return false
	}
	return true
}

func (c *Connections) count() (open, active int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.open {
		if k.active {
			active++
		}
	}
	return len(c.open), active
}

func TestIdleConnectionsShutNobodyOut(t *testing.T) {
	h, c, log, release := limited(t, 3, (*httptest.Server).Start)
	busy := connect(t, h)
	fmt.Fprint(busy, "GET /hold HTTP/1.1\r\nHost: test\r\n\r\n")
	waitFor(t, "active connection", func() bool { _, active := c.count(); return active == 1 })
	var idle []net.Conn
	for i := range 5 {
		idle = append(idle, connect(t, h))
		waitFor(t, "accepted connection", func() bool { open, _ := c.count(); return open == min(i+2, 3) })
	}
	for i, conn := range idle {
		if got, want := closed(t, conn), i < 3; got != want {
			t.Errorf("idle connection %d of 5: closed %t, want %t", i, got, want)
		}
	}
	if closed(t, busy) {
		t.Error("the one that is being answered was closed")
	}
	if status, body, _ := get(t, h.URL+"/"); status != 200 || body != "ok" {
		t.Errorf("a newcomer: %d %q", status, body)
	}
	if n := strings.Count(log.String(), "too many connections"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	release()
	for _, conn := range append(idle, busy) {
		_ = conn.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	waitFor(t, "end of all connections", func() bool { open, _ := c.count(); return open == 0 })
}

// Where all are being answered, the oldest goes: one scrape takes milliseconds, so it is stuck.
func TestStuckConnectionsShutNobodyOut(t *testing.T) {
	h, c, _, release := limited(t, 2, (*httptest.Server).Start)
	defer release()
	var stuck []net.Conn
	for i := range 3 {
		conn := connect(t, h)
		fmt.Fprint(conn, "GET /hold HTTP/1.1\r\nHost: test\r\n\r\n")
		waitFor(t, "active connection", func() bool { open, active := c.count(); return open == active && active == min(i+1, 2) })
		stuck = append(stuck, conn)
	}
	if !closed(t, stuck[0]) || closed(t, stuck[1]) || closed(t, stuck[2]) {
		t.Error("the oldest must be closed, and no other")
	}
}

// Over TLS the connection is closed without taking leave of a client that does not listen.
func TestIdleTLSConnectionsShutNobodyOut(t *testing.T) {
	h, c, _, _ := limited(t, 2, (*httptest.Server).StartTLS)
	for i := range 4 {
		connect(t, h) // no handshake ever
		waitFor(t, "accepted connection", func() bool { open, _ := c.count(); return open == min(i+1, 2) })
	}
	resp, err := h.Client().Get(h.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if open, _ := c.count(); open > 2 || resp.StatusCode != http.StatusOK {
		t.Errorf("%d connections open, %s", open, resp.Status)
	}
}
