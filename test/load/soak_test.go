//go:build load

package load_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/flat"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// soakLimits is the growth that is none. RSS has pages in it that come and go with the page cache and the collector's
// pacing; the heap is steady to a few kilobytes.
func soakLimits() map[string]float64 {
	return map[string]float64{"resident": 1 << 20, "heap": 192 << 10, "goroutines": 2, "files": 2, "threads": 2}
}

// TestSoak runs the exporter on the sender of the live failure for a long time, while devices come and go, flows are
// NATed, clients scrape and look at the page, and people run check. Nothing may grow.
func TestSoak(t *testing.T) {
	rig := labtest.NewRig(t, lab.LiveFailure())
	e := labtest.StartExporter(t, rig.A, labtest.Binary(t))
	// The work is ended, not given a deadline: a deadline fails what is under way a moment before its context is done.
	working, stop := context.WithCancel(t.Context())
	defer stop()
	w := startWork(working, stop, rig)
	measuring, cancel := context.WithTimeout(working, *soak) // ends too when the work fails
	defer cancel()
	seen := measureEvery(t, measuring, e, *soak/150)
	stop()
	if err := w.wait(); err != nil {
		t.Fatalf("%v\nThe exporter wrote:\n%s", err, e.Log())
	}
	t.Logf("%s: %v; CPU of the exporter: %.2f %% of one", *soak, w.done,
		100*e.Scrape()["process_cpu_seconds_total"]/soak.Seconds())
	for _, grown := range judge(t, seen, soakLimits()) {
		t.Error(grown)
	}
}

// measureEvery measures at intervals until ctx ends.
func measureEvery(
	t *testing.T, ctx context.Context, e *labtest.Exporter, interval time.Duration,
) map[string]flat.Series {
	t.Helper()
	seen := map[string]flat.Series{}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return seen
		case <-ticker.C:
		}
		for what, value := range measure(t, e) {
			seen[what] = append(seen[what], value)
		}
	}
}

// judge logs how each quantity went and returns what grew.
func judge(t *testing.T, seen map[string]flat.Series, limits map[string]float64) (grown []string) {
	t.Helper()
	for what, limit := range limits {
		series := seen[what]
		if err := series.Judge(limit); err != nil {
			grown = append(grown, what+": "+err.Error())
		}
		if len(series) > 0 {
			t.Logf("%s: %.0f at first, %.0f at the end", what, series[0], series[len(series)-1])
		}
	}
	return grown
}

// work is what goes on meanwhile: little at a time, so that it can run beside other things.
type work struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	done map[string]int
	errs []error
}

// startWork begins. cancel ends ctx, which the first failure does.
func startWork(ctx context.Context, cancel context.CancelFunc, rig *lab.Rig) *work {
	w := &work{cancel: cancel, done: map[string]int{}}
	client := &http.Client{
		Transport: &http.Transport{DialContext: rig.A.DialContext, DisableCompression: true},
		Timeout:   20 * time.Second,
	}
	get := func(path, accept, mark string) error {
		body, err := fetchAs(client, "http://"+scrape.Address+path, accept)
		switch {
		case err != nil:
			return err
		case strings.Contains(body, `vxlan_scrape_collector_success{collector="device"} 0`):
			w.count(late)
		case !strings.Contains(body, mark):
			return fmt.Errorf("GET %s: %d bytes without %s", path, len(body), mark)
		}
		return nil
	}
	for _, accept := range []string{"text/plain", "application/openmetrics-text; version=1.0.0"} {
		w.every(ctx, "scrapes", 3*time.Second, func() error { return get("/metrics", accept, "vxlan_device_info{") })
	}
	w.every(ctx, "pages", 10*time.Second, func() error { return get("/", "text/html", "</html>") })
	w.every(ctx, "new connections", 5*time.Second, func() error { client.CloseIdleConnections(); return nil })
	w.every(ctx, "queries that are NATed", 3*time.Second, func() error {
		_, err := rig.Query(ctx, 2, 20*time.Millisecond)
		return err
	})
	w.every(ctx, "check runs", 20*time.Second, func() error { return check(rig) })
	c, err := openChurn(rig.A)
	if err != nil {
		w.fail(err)
		return w
	}
	w.every(ctx, "batches of 4 devices", 4*time.Second, func() error { return c.batch(ctx, 4) })
	context.AfterFunc(ctx, client.CloseIdleConnections)
	return w
}

// every does something at intervals until ctx ends. What fails because of that end is no failure.
func (w *work) every(ctx context.Context, what string, interval time.Duration, do func() error) {
	w.wg.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			if err := do(); ctx.Err() != nil {
				return
			} else if err != nil {
				w.fail(fmt.Errorf("%s: %w", what, err))
			}
			w.count(what)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (w *work) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[what]++
}

// late are scrapes that say that the list of devices came too late. What else goes on on the machine may hold the
// kernel's lock of all network devices for seconds.
const late = "scrapes without devices, which came too late"

// fail ends everything: a soak that goes on without a part of its work shows nothing.
func (w *work) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
	w.cancel()
}

func (w *work) wait() error {
	w.wg.Wait()
	if w.done[late]*100 > w.done["scrapes"] {
		w.errs = append(w.errs, fmt.Errorf("%d of %d %s", w.done[late], w.done["scrapes"], late))
	}
	return errors.Join(w.errs...)
}

// check runs the command of that name, which must find the rig exposed or failing.
func check(rig *lab.Rig) error {
	_, err := rig.A.Run(os.Getenv("VXLAN_TEST_EXPORTER"), "check", "--interval=0s")
	if e, ok := errors.AsType[*exec.ExitError](err); ok && (e.ExitCode() == 1 || e.ExitCode() == 2) {
		return nil
	}
	return cmp.Or(err, errors.New("it found the failing rig healthy"))
}

// An exporter that leaks fails the soak, and the line names what; one that does not, passes.
func TestLeaksAreFound(t *testing.T) {
	limits := soakLimits()
	delete(limits, "resident") // still settling in a process so young
	for _, what := range []string{"nothing", "heap", "goroutines", "files"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := labtest.StartExporter(t, labtest.New(t, "leak").NS, os.Args[0], "leak", what)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			var want []string
			if what != "nothing" {
				want = []string{what}
			}
			var got []string
			for _, grown := range judge(t, measureEvery(t, ctx, e, 50*time.Millisecond), limits) {
				name, _, _ := strings.Cut(grown, ":")
				got = append(got, name)
			}
			if !slices.Equal(got, want) {
				t.Errorf("growth of %v", got)
			}
		})
	}
}

// leak is an exporter that loses something with every scrape.
func leak(what string) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector())
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	var lost [][]byte
	var open []*os.File
	http.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		switch what {
		case "heap":
			lost = append(lost, []byte(strings.Repeat("x", 64<<10)))
		case "goroutines":
			go func() { select {} }()
		case "files":
			if f, err := os.Open("/dev/null"); err == nil {
				open = append(open, f)
			}
		}
		metrics.ServeHTTP(w, r)
	})
	http.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	address := strings.TrimPrefix(os.Args[len(os.Args)-1], "--web.listen-address=")
	server := &http.Server{Addr: address, ReadHeaderTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Fprintln(os.Stderr, server.ListenAndServe(), len(lost), len(open))
}
