package exporter

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func origins(n int) (all []netip.Prefix) {
	for i := range n {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32))
	}
	return all
}

// left is how many have a turn or wait for one, and how many addresses are remembered.
func (h *Handshakes) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.busy + len(h.order) + len(h.waiting)
}

// TestHandshakesTakeTurns: a crowd of one address keeps nobody else waiting, and whoever gives up leaves its turn to others.
func TestHandshakesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, from := NewHandshakes(1), origins(3)
		if !h.enter(from[0], nil) {
			t.Fatal("no turn, where nobody is")
		}
		var mu sync.Mutex
		var got []string
		queue := func(name string, from netip.Prefix, gone chan struct{}) {
			go func() {
				if h.enter(from, gone) {
					mu.Lock()
					got = append(got, name)
					mu.Unlock()
					time.Sleep(time.Second)
					h.leave()
				}
			}()
			synctest.Wait()
		}
		gone := make(chan struct{})
		for _, name := range []string{"a1", "a2", "a3"} {
			queue(name, from[0], nil)
		}
		queue("b1", from[1], gone)
		queue("b2", from[1], nil)
		queue("c1", from[2], nil)
		close(gone)
		synctest.Wait()
		h.leave()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if want := "[a1 b2 c1 a2 a3]"; fmt.Sprint(got) != want {
			t.Errorf("turns %v, want %s", got, want)
		}
		if n := h.left(); n != 0 {
			t.Errorf("%d left behind", n)
		}
	})
}

// TestHandshakesGiveUp: nobody waits for ever, and a turn that comes too late is passed on.
func TestHandshakesGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, from := NewHandshakes(2), origins(1)[0]
		for range 2 {
			h.enter(from, nil)
		}
		start := time.Now()
		if h.enter(from, nil) || time.Since(start) != handshakeWait {
			t.Errorf("a turn after %s", time.Since(start))
		}
		h.leave()
		h.leave()
		if n := h.left(); n != 0 || !h.enter(from, nil) {
			t.Errorf("%d left behind", n)
		}
	})
}

// TestHandshaking: real connections: whatever clients do in the middle of a handshake, all turns come back, and what is no handshake
// any more takes none.
func TestHandshaking(t *testing.T) {
	h := NewHandshakes(1)
	c := NewConnections(100, slog.New(slog.DiscardHandler))
	var most, requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h.mu.Lock()
		most.Store(max(most.Load(), int64(h.busy)))
		h.mu.Unlock()
		if r.URL.Path == "/slow" { // a request that takes long, as a scrape may, must not hold a turn
			time.Sleep(200 * time.Millisecond)
		}
	}))
	server.Config.ConnState = c.Follow
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.ReadHeaderTimeout = time.Second
	server.Listener = h.Of(server.Listener)
	server.StartTLS()
	defer server.Close()
	address := server.Listener.Addr().String()

	var wg sync.WaitGroup
	for i := range 20 { // connections that say nothing, half a record, nonsense, or a true beginning and no more
		wg.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			switch i % 4 {
			case 1:
				fmt.Fprint(conn, "\x16\x03\x01")
			case 2:
				fmt.Fprint(conn, "GET / HTTP/1.1\r\n\r\n")
			case 3:
				_ = tls.Client(deaf{conn}, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:gosec // of the test's own server
			}
			time.Sleep(300 * time.Millisecond)
		})
	}
	for i := range 20 {
		wg.Go(func() {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				transport := server.Client().Transport.(*http.Transport).Clone()
				transport.TLSClientConfig.MinVersion, transport.TLSClientConfig.MaxVersion = version, version
				if i%2 == 0 { // the server asks for another key share than it is sent
					transport.TLSClientConfig.CurvePreferences = []tls.CurveID{tls.CurveP521, tls.X25519}
				}
				transport.ForceAttemptHTTP2 = i%3 == 0
				for _, path := range []string{"/", "/slow", "/"} {
					resp, err := (&http.Client{Transport: transport}).Get(server.URL + path)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				}
				transport.CloseIdleConnections()
			}
		})
	}
	wg.Wait()
	if requests.Load() != 20*2*3 || most.Load() > 1 {
		t.Errorf("%d requests, at most %d turns at once", requests.Load(), most.Load())
	}
	for end := time.Now().Add(10 * time.Second); h.left() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d left behind", h.left())
		}
	}
}

// deaf never reads what it is sent.
type deaf struct{ net.Conn }

func (d deaf) Read([]byte) (int, error) {
	time.Sleep(300 * time.Millisecond)
	return 0, io.EOF
}
