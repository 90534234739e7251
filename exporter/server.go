package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
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

// PageFunc writes the status page of an observation.
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
	mux.HandleFunc("GET "+s.TelemetryPath, s.metrics)
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "Healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "Not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "Ready")
	})
	if s.EnablePprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// metrics serves one scrape: it waits for the observation, which concurrent scrapes share, and renders it.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	timeout := s.timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), timeout+s.TimeoutOffset)
	defer cancel()
	observe, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	seen := s.Observer.Observe(observe)
	s.answer(ctx, w, func(w http.ResponseWriter) { s.exposition(w, r, seen) })
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

// page serves the status page from an observation of its own, or the scrape's that is under way.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), DefaultTimeout)
	defer cancel()
	observe, cancel := context.WithTimeout(ctx, DefaultTimeout/2)
	defer cancel()
	seen := s.Observer.Observe(observe)
	s.answer(ctx, w, func(w http.ResponseWriter) { s.Page(w, seen) })
}
