package exporter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

func newServer(t *testing.T, change func(*Config), rest ...*fake) (*Server, *httptest.Server) {
	t.Helper()
	c := Config{
		Observer: newObserver(&logBuffer{}, rest...), Self: prometheus.NewRegistry(), TelemetryPath: "/metrics",
		TimeoutOffset: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Page: func(w http.ResponseWriter, seen *Observation) {
			fmt.Fprint(w, "page of ", len(seen.Node.Results), " readings")
		},
	}
	if change != nil {
		change(&c)
	}
	s := NewServer(c)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return s, h
}

func get(t *testing.T, url string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestPaths(t *testing.T) {
	s, h := newServer(t, nil)
	for _, tt := range []struct {
		path   string
		status int
		body   string
	}{
		{"/-/healthy", 200, "Healthy"},
		{"/-/ready", 503, "Not ready"},
		{"/", 200, "page of 1 readings"},
		{"/metrics", 200, `vxlan_scrape_collector_success{collector="device"} 1`},
		{"/nowhere", 404, ""},
		{"/debug/pprof/", 404, ""},
	} {
		if status, body, _ := get(t, h.URL+tt.path); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d %q", tt.path, status, body)
		}
	}
	s.SetReady(true)
	if status, _, _ := get(t, h.URL+"/-/ready"); status != 200 {
		t.Errorf("ready: %d", status)
	}
	resp, err := http.Post(h.URL+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	_, h = newServer(t, func(c *Config) { c.EnablePprof = true; c.TelemetryPath = "/m" })
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/m"} {
		if status, _, _ := get(t, h.URL+path); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestOpenMetricsIsNegotiated(t *testing.T) {
	_, h := newServer(t, nil)
	_, body, header := get(t, h.URL+"/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") ||
		!strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("%s, ends with %q", header.Get("Content-Type"), body[max(0, len(body)-20):])
	}
}

func TestCollectorsCanBeChosen(t *testing.T) {
	_, h := newServer(t, nil, &fake{name: "a", observe: filled}, &fake{name: "b", observe: filled})
	for _, tt := range []struct{ query, has, hasNot string }{
		{"", "vxlan_test_b", "\x00"},
		{"?collect[]=a", "vxlan_test_a", "vxlan_test_b"},
		{"?exclude[]=a", "vxlan_test_b", "vxlan_test_a"},
		{"?collect[]=a&collect[]=b", "vxlan_test_b", `collector="device"`},
	} {
		if _, body, _ := get(t, h.URL+"/metrics"+tt.query); !strings.Contains(body, tt.has) ||
			strings.Contains(body, tt.hasNot) {
			t.Errorf("%s:\n%s", tt.query, body)
		}
	}
}

func TestScrapeTimeout(t *testing.T) {
	s := &Server{Config: Config{TimeoutOffset: 500 * time.Millisecond}}
	for header, want := range map[string]time.Duration{
		"": DefaultTimeout, "10": 9500 * time.Millisecond, "1.5": time.Second, "0.5": 250 * time.Millisecond,
		"nonsense": DefaultTimeout, "-1": DefaultTimeout, "NaN": DefaultTimeout, "1e300": MaxTimeout - 500*time.Millisecond,
		"Inf": MaxTimeout - 500*time.Millisecond, "0": DefaultTimeout,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if header != "" {
			r.Header.Set(timeoutHeader, header)
		}
		if got := s.timeout(r); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

func TestTimeoutHeaderBoundsTheScrape(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, h := newServer(t, nil, &fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
		<-release
		return nil, nil
	}}, &fake{name: "fine", observe: filled})
	status, body, _ := get(t, h.URL+"/metrics", timeoutHeader, "0.2")
	for _, want := range []string{
		`vxlan_scrape_collector_success{collector="hung"} 0`, `vxlan_scrape_collector_success{collector="fine"} 1`,
		"vxlan_test_fine 1",
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, without %s:\n%s", status, want, body)
		}
	}
	if strings.Contains(body, "vxlan_test_hung") {
		t.Errorf("metrics of a collector that did not answer:\n%s", body)
	}
}

// pipes is a listener whose clients come as pipes.
type pipes chan net.Conn

func (l pipes) Accept() (net.Conn, error) { return <-l, nil }
func (l pipes) Close() error              { return nil }
func (l pipes) Addr() net.Addr            { return nil }

// At most n connections are open at once; the next one is accepted when one is closed.
func TestLimitListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := make(pipes, 3)
		for range cap(clients) {
			conn, _ := net.Pipe()
			clients <- conn
		}
		l := LimitListener(clients, 1)
		accepted := make(chan net.Conn, cap(clients))
		go func() {
			for range cap(clients) {
				conn, _ := l.Accept()
				accepted <- conn
			}
		}()
		for range cap(clients) {
			synctest.Wait()
			if len(accepted) != 1 {
				t.Fatalf("%d connections at once, the limit is 1", len(accepted))
			}
			(<-accepted).Close()
		}
	})
}
