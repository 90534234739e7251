package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/churn"
	"vxlan_exporter/test/lab/scrape"
)

// work is what goes on meanwhile: little at a time, so that it can run beside other things.
type work struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	done map[string]int
	errs []error
}

// startWork begins. cancel ends ctx, which the first failure does.
func startWork(ctx context.Context, cancel context.CancelFunc, rig *lab.Rig, exporter string) *work {
	w := &work{cancel: cancel, done: map[string]int{}}
	client := &http.Client{Transport: &http.Transport{DialContext: rig.A.DialContext, DisableCompression: true}, Timeout: 20 * time.Second}
	for _, accept := range []string{"text/plain", "application/openmetrics-text; version=1.0.0"} {
		w.every(ctx, "scrapes", 3*time.Second, func() error { return w.scrape(client, accept) })
	}
	w.every(ctx, "pages", 10*time.Second, func() error { return get(client, "/", "text/html", has("</html>")) })
	w.every(ctx, "new connections", 5*time.Second, func() error { client.CloseIdleConnections(); return nil })
	w.every(ctx, "queries that are NATed", 3*time.Second, func() error { _, err := rig.Query(ctx, 2, 20*time.Millisecond); return err })
	w.every(ctx, "check runs", 20*time.Second, func() error { return check(ctx, rig, exporter) })
	c, err := churn.Open(rig.A)
	if err != nil {
		w.fail(err)
		return w
	}
	w.every(ctx, "batches of 4 devices", 4*time.Second, func() error { return c.Batch(ctx, 4) })
	context.AfterFunc(ctx, func() { client.CloseIdleConnections() })
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

// late are scrapes that say that the list of devices came too late. What else goes on on the machine may hold the kernel's lock of all
// network devices for seconds.
const late = "scrapes without devices, which came too late"

func (w *work) scrape(client *http.Client, accept string) error {
	return get(client, "/metrics", accept, func(body string) bool {
		if strings.Contains(body, `vxlan_scrape_collector_success{collector="device"} 0`) {
			w.count(late)
			return true
		}
		return strings.Contains(body, "vxlan_device_info{")
	})
}

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

// String tells how much was done.
func (w *work) String() string {
	var b strings.Builder
	for _, what := range []string{"scrapes", "pages", "check runs", "queries that are NATed", "batches of 4 devices", "new connections", late} {
		fmt.Fprintf(&b, "%d %s, ", w.done[what], what)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

func has(text string) func(string) bool {
	return func(body string) bool { return strings.Contains(body, text) }
}

func get(client *http.Client, path, accept string, whole func(body string) bool) error {
	r, err := http.NewRequest(http.MethodGet, "http://"+scrape.Address+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", accept)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !whole(string(b)) {
		return fmt.Errorf("GET %s: %s, %d bytes", path, resp.Status, len(b))
	}
	return nil
}

// check runs the command of that name, which must find the rig exposed or failing.
func check(ctx context.Context, rig *lab.Rig, exporter string) error {
	_, err := rig.A.Run(exporter, "check", "--interval=0s")
	if e, ok := errors.AsType[*exec.ExitError](err); ok && (e.ExitCode() == 1 || e.ExitCode() == 2) {
		return nil
	}
	if err == nil {
		err = errors.New("it found the failing rig healthy")
	}
	return errors.Join(err, ctx.Err())
}
