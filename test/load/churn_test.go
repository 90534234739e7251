//go:build load

package load_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxlan_exporter/test/lab/flat"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// steady is a device that is there all the time, and so must be in every scrape.
const steady device = 1<<24 - 3

// TestChurn reads devices that come, change their names and go. Every scrape must show each device as it really was at
// some moment, with all of its series, or not at all (see whole); the exporter must be as large afterwards as it was
// before. With the race detector it must be free of races, but its resident size says nothing: there it is mostly
// shadow memory, which is never given back.
func TestChurn(t *testing.T) {
	t.Run("as shipped", func(t *testing.T) {
		testChurn(t, labtest.Binary(t), map[string]float64{
			"resident": 4 << 20, "heap": 700 << 10, "goroutines": 3,
			"files": 3,
		})
	})
	t.Run("race detector", func(t *testing.T) {
		testChurn(t, raceBinary(t), map[string]float64{"heap": 700 << 10, "goroutines": 3, "files": 3})
	})
}

func testChurn(t *testing.T, program string, limits map[string]float64) {
	const scrapers = 50
	ns := labtest.New(t, "churn")
	c, err := openChurn(ns.NS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.make(steady, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.settle(steady); err != nil {
		t.Fatal(err)
	}
	e := labtest.StartExporter(t, ns.NS, program, "--web.max-requests=0", "--natrules.min-interval=0s")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var s seen
	var wg sync.WaitGroup
	for range scrapers {
		wg.Go(func() { s.scrape(ctx, t, ns, e, c) })
	}
	samples := map[string]flat.Series{}
	start := time.Now()
	for i := 0; int(c.newest()) < *churns; i++ {
		if err := c.batch(ctx, 25); err != nil {
			t.Error(err)
			break
		}
		for what, value := range measure(t, e) {
			samples[what] = append(samples[what], value)
		}
	}
	took := time.Since(start)
	cancel()
	wg.Wait()
	t.Logf("%d devices in %s; %d scrapes, %d of them interrupted by changes, %d devices seen",
		c.newest(), took.Round(time.Millisecond), s.scrapes.Load(), s.interrupted.Load(), len(s.devices))

	if len(s.devices) < int(c.newest())/20 {
		t.Errorf("the scrapes saw only %d of %d devices: the test shows little", len(s.devices), c.newest())
	}
	if n := s.scrapes.Load(); n < scrapers || s.interrupted.Load() > n/10 {
		t.Errorf("%d of %d scrapes have no devices, because they changed all the time", s.interrupted.Load(), n)
	}
	// At the end only the steady device is left, and nothing is remembered of the others.
	if devices := byDevice(e.Scrape()); len(devices) != 1 || devices[steady.settled()] == nil {
		t.Errorf("at the end there are %v", slices.Sorted(maps.Keys(devices)))
	}
	for _, grown := range judge(t, samples, limits) {
		t.Error(grown)
	}
	if log := e.Log(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the exporter wrote:\n%s", log)
	}
}

// raceBinary builds the exporter with the race detector, which takes a C compiler.
func raceBinary(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "vxlan_exporter")
	cmd := exec.Command("go", "build", "-race", "-o", path, "vxlan_exporter/cmd/vxlan_exporter")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build -race: %v\n%s", err, out)
	}
	return path
}

// measure reads what must not grow. The heap is what survived the last collection: the size at which the next one
// comes, less GOGC's half.
func measure(t *testing.T, e *labtest.Exporter) map[string]float64 {
	t.Helper()
	m := e.Scrape()
	resident, err := e.Resident()
	if err != nil {
		t.Fatal(err)
	}
	files, err := e.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]float64{
		"resident": float64(resident), "files": float64(files), "heap": m["go_memstats_next_gc_bytes"] / 1.5,
		"goroutines": m["go_goroutines"], "threads": m["go_threads"],
	}
}

// seen is what the scrapers saw.
type seen struct {
	scrapes, interrupted atomic.Int64
	mu                   sync.Mutex
	devices              map[string]bool // "name vni"
}

func (s *seen) scrape(ctx context.Context, t *testing.T, ns *labtest.NS, e *labtest.Exporter, c *churn) {
	client := &http.Client{Transport: &http.Transport{DialContext: ns.DialContext}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		body, err := fetch(client, e.URL()+"/metrics")
		if err != nil {
			t.Errorf("a scrape: %v", err)
			return
		}
		m, err := scrape.Parse(bytes.NewReader([]byte(body)))
		if err != nil {
			t.Error(err)
			return
		}
		s.scrapes.Add(1)
		devices := byDevice(m)
		if m[`vxlan_scrape_collector_success{collector="device"}`] != 1 {
			s.interrupted.Add(1)
			if len(devices) > 0 {
				t.Errorf("the collector has failed and shows devices: %v", slices.Sorted(maps.Keys(devices)))
			}
			continue
		}
		if devices[steady.settled()] == nil {
			t.Errorf("a device that was there all the time is missing among %v", slices.Sorted(maps.Keys(devices)))
		}
		var names []string
		for name, series := range devices {
			vni, err := whole(name, series, c.newest())
			if err != nil {
				t.Errorf("%s: %v\n%v", name, err, series)
				return
			}
			names = append(names, fmt.Sprint(name, " ", vni))
		}
		s.mu.Lock()
		if s.devices == nil {
			s.devices = map[string]bool{}
		}
		for _, n := range names {
			s.devices[n] = true
		}
		s.mu.Unlock()
	}
}

// byDevice sorts the series of VXLAN devices by their device, without that label.
func byDevice(m scrape.Metrics) map[string]scrape.Metrics {
	devices := map[string]scrape.Metrics{}
	for series, value := range m {
		g := deviceSeries().FindStringSubmatch(series)
		if g == nil {
			continue
		}
		if devices[g[2]] == nil {
			devices[g[2]] = scrape.Metrics{}
		}
		devices[g[2]][g[1]+"{"+strings.TrimPrefix(g[3], ",")+"}"] = value
	}
	return devices
}

var deviceSeries = sync.OnceValue(func() *regexp.Regexp {
	// "device" is the first of the sorted labels.
	return regexp.MustCompile(`^vxlan_device_(\w+)\{device="([^"]+)"(.*)\}$`)
})

// whole tells whether these are the series of a device that existed: all of them, each once, and all of the same
// device. A device is half there when one of its series is missing, or is of another device that had its name before or
// later.
func whole(name string, got scrape.Metrics, made device) (device, error) {
	var d device
	for series := range got {
		if g := regexp.MustCompile(`^info\{.*vni="(\d+)"\}$`).FindStringSubmatch(series); g != nil {
			vni, err := strconv.ParseUint(g[1], 10, 24)
			if err != nil || d != 0 {
				return 0, fmt.Errorf("two devices at once, or no number: %w", err)
			}
			d = device(vni)
		}
	}
	if d == 0 || !d.had(name) || (d > made && d != steady) {
		return 0, fmt.Errorf("no device with VNI %d ever had this name", d)
	}
	family := map[bool]string{false: "ipv4", true: "ipv6"}[d.ipv6()]
	want := scrape.Metrics{
		fmt.Sprintf(`info{external="false",family=%q,local=%q,port="%d",underlay="",vni="%d"}`,
			family, d.local(), d.port(), d): 1,
		"up{}":                   got["up{}"],
		"udp_checksum_enabled{}": number(d.udpChecksum()),
	}
	if d.ipv6() {
		want[`udp6_zero_checksum_enabled{direction="tx"}`] = 0
		want[`udp6_zero_checksum_enabled{direction="rx"}`] = 0
	}
	const tx = `feature_active{feature="tx-checksum-ip-generic"}`
	for _, kind := range []string{"active", "requested", "fixed"} {
		for _, feature := range []string{"tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation"} {
			series := fmt.Sprintf("feature_%s{feature=%q}", kind, feature)
			want[series] = got[series]
		}
	}
	if name != d.fresh() { // on a fresh device it is being switched off
		want[tx] = number(d.txChecksum())
	}
	for _, variant := range []string{"offloaded_checksum", "zero_checksum"} {
		states := 0.0
		for _, state := range []string{"active", "clear", "exposed", "unknown"} {
			series := fmt.Sprintf("exposure{state=%q,variant=%q}", state, variant)
			want[series] = got[series]
			states += got[series]
		}
		if states != 1 {
			return d, fmt.Errorf("%g states of %s", states, variant)
		}
		if got[tx] == 0 && got[fmt.Sprintf(`exposure{state="clear",variant=%q}`, variant)] != 1 {
			return d, fmt.Errorf("judged by other features than are shown")
		}
	}
	if !maps.Equal(got, want) {
		return d, fmt.Errorf("not the series of VNI %d, which are\n%v", d, want)
	}
	return d, nil
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
