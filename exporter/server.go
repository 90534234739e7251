package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	_ "net/http/pprof" // served if EnablePprof says so
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is what a Server needs.
type Config struct {
	Observer      *Observer
	Self          prometheus.Gatherer // metrics of the process itself
	TelemetryPath string              // where the metrics are, beginning with a slash
	MaxRequests   int                 // answers rendered at the same time; 0: no limit
	TimeoutOffset time.Duration       // subtracted from the scrape timeout that Prometheus announces
	EnablePprof   bool                // serve /debug/pprof/
	Page          PageFunc            // renders the status page
	Logger        *slog.Logger
}

// PageFunc writes a page, such as the status page, of an observation.
type PageFunc func(w http.ResponseWriter, seen *Observation)

// Server is the HTTP side of the exporter.
type Server struct {
	Config
	publisher *Publisher
	rendering chan struct{} // one for each answer that is being rendered; nil: no limit
	unsent    atomic.Int64  // bytes of answers that are being sent
	ready     atomic.Bool
}

// NewServer makes a server. It is not ready until SetReady is called.
func NewServer(c Config) *Server {
	s := &Server{Config: c, publisher: NewPublisher(c.Observer.Collectors())}
	if c.MaxRequests > 0 {
		s.rendering = make(chan struct{}, c.MaxRequests)
	}
	return s
}

// SetReady makes /-/ready answer yes, or no while the server starts and drains.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Handler routes the paths of the exporter.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+s.TelemetryPath, func(w http.ResponseWriter, r *http.Request) {
		s.observed(w, r, s.timeout(r), s.TimeoutOffset,
			func(w http.ResponseWriter, seen *Observation) { s.exposition(w, r, seen) })
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		s.observed(w, r, DefaultTimeout/2, DefaultTimeout/2, s.Page)
	})
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "Healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "Not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "Ready")
	})
	if s.EnablePprof {
		mux.Handle("GET /debug/pprof/", http.DefaultServeMux) // where the import puts it
	}
	return mux
}

// observed answers with what render makes of an observation, which concurrent requests share. It may take limit,
// rendering and the wait for it some more.
func (s *Server) observed(w http.ResponseWriter, r *http.Request, limit, more time.Duration, render PageFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), limit+more)
	defer cancel()
	observe, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	seen := s.Observer.Observe(observe)
	s.answer(ctx, w, func(w http.ResponseWriter) { render(w, seen) })
}

// exposition writes an observation in the format that the client asks for.
func (s *Server) exposition(w http.ResponseWriter, r *http.Request, seen *Observation) {
	registry := prometheus.NewRegistry()
	q := r.URL.Query()
	keep := filter(q["collect[]"], q["exclude[]"])
	if err := registry.Register(s.publisher.Of(seen, keep)); err != nil {
		s.Logger.Error("metrics cannot be registered", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	promhttp.HandlerFor(prometheus.Gatherers{s.Self, registry}, promhttp.HandlerOpts{
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelError),
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
		// Compression takes a quarter of a scrape's CPU and 0.8 MB (docs/PERFORMANCE.md), for 20 KB less to send.
		DisableCompression: true,
	}).ServeHTTP(w, r)
}

// MaxTimeout bounds every scrape, whatever timeout its request announces.
const MaxTimeout = time.Minute

// timeoutHeader is how Prometheus tells its scrape timeout, in seconds.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// timeout is how long an observation may take: the scrape timeout that Prometheus announces less TimeoutOffset.
func (s *Server) timeout(r *http.Request) time.Duration {
	seconds, err := strconv.ParseFloat(r.Header.Get(timeoutHeader), 64)
	if err != nil || !(seconds > 0) {
		return DefaultTimeout
	}
	t := time.Duration(min(seconds, MaxTimeout.Seconds()) * float64(time.Second))
	if t <= 2*s.TimeoutOffset {
		return max(t/2, time.Nanosecond) // too short to subtract the offset
	}
	return t - s.TimeoutOffset
}
