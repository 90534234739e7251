//go:build load

package load_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// scrapeTimeout is Prometheus's default (scrape_timeout), which an honest scrape announces.
const scrapeTimeout = 10 * time.Second

// watch measures the exporter while it is under load: its memory, and how long an honest scrape takes.
type watch struct {
	t        *testing.T
	x        target
	served   bool // honest scrapes must be answered
	stop     func()
	resident int // highest, bytes
	sockets  int // highest memory of its TCP sockets in the kernel, bytes

	mu      sync.Mutex
	slowest time.Duration // honest scrape
	scrapes int
}

// watched begins to watch; stop ends it.
func watched(t *testing.T, x target, served bool) *watch {
	w := &watch{t: t, x: x, served: served}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.memory(ctx) })
	// Scrapers that keep their connections, as Prometheus does, and are there before the load.
	for _, from := range []string{crowd, another} {
		client := x.client(from, false)
		w.honest(client, from)
		wg.Go(func() { w.scrape(ctx, client, from) })
	}
	w.stop = func() { cancel(); wg.Wait() }
	return w
}

func (w *watch) memory(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := w.x.Resident()
		if err != nil {
			w.t.Error(err)
			return
		}
		w.resident = max(w.resident, n)
		if n, err = socketMemory(w.x.ns); err != nil {
			w.t.Error(err)
			return
		}
		w.sockets = max(w.sockets, n)
		time.Sleep(200 * time.Millisecond)
	}
}

// socketMemory sums what the kernel holds for the exporter's TCP sockets: what was received, what was sent and not
// acknowledged, and what is held for either (ss(8), skmem). A memory cgroup is charged for that.
func socketMemory(ns *labtest.NS) (bytes int, err error) {
	out, err := ns.NS.Run("ss", "-tamnH", "sport", "=", ":10059")
	if err != nil {
		return 0, err
	}
	for _, m := range regexp.MustCompile(`skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+),`).FindAllStringSubmatch(out, -1) {
		for _, field := range m[1:] {
			n, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				return 0, err
			}
			bytes += int(int32(n)) // what is held in advance (f) can be negative, and is printed as unsigned
		}
	}
	return bytes, nil
}

// scrape is an honest scraper: it makes a whole scrape twice a second.
func (w *watch) scrape(ctx context.Context, client *http.Client, from string) {
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		start := time.Now()
		if !w.honest(client, from) {
			return
		}
		time.Sleep(max(0, 500*time.Millisecond-time.Since(start)))
	}
}

// honest makes one scrape and measures it.
func (w *watch) honest(client *http.Client, from string) bool {
	start := time.Now()
	err := honest(client, w.x.URL())
	took := time.Since(start)
	if err != nil && !w.served {
		w.t.Logf("an honest scrape from %s after %s: %v", from, took.Round(time.Millisecond), err)
		return true
	}
	if err != nil {
		w.t.Errorf("an honest scrape from %s after %s: %v", from, took.Round(time.Millisecond), err)
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slowest = max(w.slowest, took)
	w.scrapes++
	return true
}

// honest makes one scrape and demands all of it: the status, every collector's success and the devices.
func honest(client *http.Client, base string) error {
	r, err := http.NewRequest(http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(scrapeTimeout.Seconds(), 'f', -1, 64))
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	m, err := scrape.Parse(bytes.NewReader(body))
	if err != nil {
		return err
	}
	devices := 0
	for _, s := range m.Names() {
		if strings.HasPrefix(s, "vxlan_device_info{") {
			devices++
		}
		if strings.HasPrefix(s, "vxlan_scrape_collector_success{") && m[s] != 1 {
			return fmt.Errorf("%s is %g", s, m[s])
		}
	}
	if devices == 0 {
		return fmt.Errorf("no device in %d series", len(m))
	}
	return nil
}

// within fails the test unless the exporter stayed within the unit's memory, and honest scrapes, where they must be
// answered, went on.
func (w *watch) within(u unit) {
	w.t.Helper()
	const mb = 1e6
	w.t.Logf("%.1f MB resident and %.1f MB of sockets at most; %d honest scrapes, the slowest %s",
		float64(w.resident)/mb, float64(w.sockets)/mb, w.scrapes, w.slowest.Round(time.Millisecond))
	if w.resident+w.sockets >= u.memoryMax {
		w.t.Errorf("%d bytes of memory, the unit allows %d", w.resident+w.sockets, u.memoryMax)
	}
	if w.served && w.scrapes < 3 {
		w.t.Errorf("only %d honest scrapes", w.scrapes)
	}
}
