//go:build stress

package stress_test

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

	"vxlan_exporter/lab/labtest"
	"vxlan_exporter/lab/scrape"
)

// scrapeTimeout is Prometheus's default (scrape_timeout), which an honest scrape announces.
const scrapeTimeout = 10 * time.Second

// watch measures the exporter while it is under load: its memory, and how long an honest scrape takes.
type watch struct {
	t        *testing.T
	ns       *labtest.NS
	e        *labtest.Exporter
	resident int           // highest, bytes
	sockets  int           // highest memory of its TCP sockets in the kernel, bytes
	slowest  time.Duration // honest scrape
	scrapes  int
	stop     func()
}

// watched begins to watch; stop ends it.
func watched(t *testing.T, ns *labtest.NS, e *labtest.Exporter) *watch {
	w := &watch{t: t, ns: ns, e: e}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.memory(ctx) })
	wg.Go(func() { w.scrape(ctx) })
	w.stop = func() { cancel(); wg.Wait() }
	return w
}

func (w *watch) memory(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := w.e.Resident()
		if err != nil {
			w.t.Error(err)
			return
		}
		w.resident = max(w.resident, n)
		if n, err = socketMemory(w.ns); err != nil {
			w.t.Error(err)
			return
		}
		w.sockets = max(w.sockets, n)
		time.Sleep(200 * time.Millisecond)
	}
}

// socketMemory sums what the kernel holds for the exporter's TCP sockets: what was received, what was sent and not acknowledged, and
// what is held for either (ss(8), skmem). A memory cgroup is charged for that.
func socketMemory(ns *labtest.NS) (bytes int, err error) {
	out, err := ns.NS.Run("ss", "-tamnH", "sport", "=", ":10059")
	if err != nil {
		return 0, err
	}
	for _, m := range regexp.MustCompile(`skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+),`).FindAllStringSubmatch(out, -1) {
		for _, field := range m[1:] {
			n, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			bytes += n
		}
	}
	return bytes, nil
}

// scrape is the honest one: a whole scrape twice a second, over a connection that it keeps, as Prometheus does.
func (w *watch) scrape(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{DialContext: w.ns.DialContext, MaxConnsPerHost: 1}, Timeout: scrapeTimeout}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		start := time.Now()
		if err := honest(client, "http://"+scrape.Address); err != nil {
			w.t.Errorf("an honest scrape after %s: %v", time.Since(start).Round(time.Millisecond), err)
			return
		}
		w.slowest = max(w.slowest, time.Since(start))
		w.scrapes++
		time.Sleep(max(0, 500*time.Millisecond-time.Since(start)))
	}
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

// within fails the test unless the exporter stayed within the unit's memory, and every honest scrape within its timeout.
func (w *watch) within(u unit) {
	w.t.Helper()
	const mb = 1e6
	w.t.Logf("%.1f MB resident and %.1f MB of sockets at most; %d honest scrapes, the slowest %s",
		float64(w.resident)/mb, float64(w.sockets)/mb, w.scrapes, w.slowest.Round(time.Millisecond))
	if w.resident+w.sockets >= u.memoryMax {
		w.t.Errorf("%d bytes of memory, the unit allows %d", w.resident+w.sockets, u.memoryMax)
	}
	if w.scrapes < 3 {
		w.t.Errorf("only %d honest scrapes", w.scrapes)
	}
}
