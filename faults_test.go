package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/exporter"
	"vxlan_exporter/kernel/kerneltest"
	"vxlan_exporter/kernel/natrules"
	"vxlan_exporter/lab/scrape"
	"vxlan_exporter/node"
	"vxlan_exporter/selftest/store"
)

// machine is a whole exporter on a kernel that can be broken: the program's own wiring, all collectors switched on, everything read
// anew by every scrape.
type machine struct {
	t       *testing.T
	kernel  *kerneltest.Kernel
	proc    *kerneltest.Proc
	handler http.Handler
	log     *lines
	timeout string // X-Prometheus-Scrape-Timeout-Seconds
}

// Fixtures of a procfs, and what belongs to them.
const (
	fixture618 = "collectors/testdata/proc-6.18"
	fixture310 = "collectors/testdata/proc-3.10"
)

func newMachine(t *testing.T, k *kerneltest.Kernel, fixture string) *machine {
	t.Helper()
	m := &machine{t: t, kernel: k, proc: kerneltest.NewProc(t, fixture), log: &lines{}, timeout: "3"}
	m.proc.Write("os-release", "ID=debian\nVERSION_ID=\"12\"\n")
	m.storeSelfTest()
	app := kingpin.New("test", "").Terminate(nil)
	s := addSourceFlags(app)
	if _, err := app.Parse([]string{
		"--path.procfs=" + m.proc.Root, "--path.os-release=" + m.proc.Path("os-release"), "--selftest.file=" + m.proc.Path("selftest.json"),
		"--conntrack.min-interval=0s", "--natrules.min-interval=0s", "--collector.wire",
		"--vxlan.port=8472", "--vxlan.port=4789",
	}); err != nil {
		t.Fatal(err)
	}
	s.wire.Open = k.OpenPacket
	s.kernel = openers{
		route: k.OpenRoute, ioctl: k.OpenIoctl, generic: k.OpenGeneric, conntrack: k.OpenConntrack,
		rules: natrules.NewReader(natrules.Config{
			Proc: m.proc.Root, Sys: m.proc.Root, Boot: m.proc.Root, Modules: m.proc.Root,
			OpenNFTables: k.OpenNFTables, OpenLegacy: k.OpenLegacy,
		}),
		surroundings: k.OpenSurroundings,
	}
	logger := slog.New(slog.NewTextHandler(m.log, nil))
	set, err := s.build(logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	for _, run := range set.background {
		background.Go(func() { run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		background.Wait()
	})
	m.handler = exporter.NewServer(exporter.Config{
		Observer: set.observer, Self: prometheus.NewRegistry(), TelemetryPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: logger,
	}).Handler()
	return m
}

// storeSelfTest stores a result of this boot and release.
func (m *machine) storeSelfTest() {
	m.t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(m.proc.Path(name))
		if err != nil {
			m.t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	err := store.Write(m.proc.Path("selftest.json"), node.SelfTest{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BootID: read("sys/kernel/random/boot_id"), Release: read("sys/kernel/osrelease"),
		Results: []node.SelfTestResult{{Variant: node.OffloadedChecksum, Family: node.IPv4, Verdict: "affected", Evidence: &node.Sums{Correct: 1}}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// moving are series whose values differ from one scrape to the next in the best of health.
var moving = regexp.MustCompile(`^vxlan_(scrape_collector_duration_seconds|conntrack_scan_(age|duration|timestamp|longest_receive)_seconds)`)

// exposition scrapes and returns the exposition text's samples; those that move are 0.
func (m *machine) exposition() scrape.Metrics {
	m.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", m.timeout)
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		m.t.Fatalf("status %d, %v: %s", w.Code, err, body)
	}
	got, err := scrape.Parse(bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	for s := range got {
		if moving.MatchString(s) {
			got[s] = 0
		}
	}
	return got
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// take returns what was logged since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.all
	l.all = nil
	return taken
}

// resources are what an exporter could leak.
type resources struct{ goroutines, files int }

func counted(t *testing.T) resources {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return resources{runtime.NumGoroutine(), len(files)}
}

// eventually waits until a value is what it should be: a reading that was given up comes back a moment later.
func eventually[T comparable](value func() T, want T) (got T) {
	for range 250 {
		if got = value(); got == want {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return got
}

func (m *machine) sockets() string { return fmt.Sprint(m.kernel.Sockets()) }

// A fault breaks something of a machine; what it returns mends it.
type fault struct {
	name  string
	setUp func(k *kerneltest.Kernel) // of a kernel that is peculiar, but works
	files func(p *kerneltest.Proc)   // the same, of its procfs
	broke func(m *machine) (mend func())
	slow  bool // deadlines are missed: each look takes its time

	// What becomes of an exporter that has been scraped before, and of one that begins with the fault. start nil: the same.
	later outcome
	start *outcome
}

// outcome is what a fault may do, and must. Everything else must be as it was.
type outcome struct {
	fails   statuses           // the collectors that fail, and how
	lost    string             // series that must be gone: a regular expression, matched at the beginning
	changed string             // series that may come, go or have another value
	becomes map[string]float64 // series that must have another value
	log     []string           // lines that are logged besides one for each collector that fails
	mended  []string           // lines that are logged when it is mended, besides one for each collector that failed
	told    bool               // what broke in the background since the last scrape is told by one more
}

type statuses = map[string]node.Status

func (f *fault) atStart() outcome {
	if f.start != nil {
		return *f.start
	}
	return f.later
}

// atOnce is how many exporters are broken at the same time: most of the time is spent waiting for deadlines.
const atOnce = 6

// TestFaults breaks one source after the other under a whole exporter, while it runs and before it starts, and compares the exposition
// before, during and after. When all is done, no goroutine and no file is left.
func TestFaults(t *testing.T) {
	// What the runtime and the test itself need is there after this.
	t.Run("healthy", func(t *testing.T) { newMachine(t, kerneltest.New(), fixture618).exposition() })
	before := counted(t)
	todo := make(chan fault)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for f := range todo {
				t.Run(f.name, func(t *testing.T) {
					t.Run("later", func(t *testing.T) { f.breaksLater(t) })
					t.Run("at the start", func(t *testing.T) { f.breaksFirst(t) })
				})
			}
		})
	}
	for _, f := range faults() {
		todo <- f
	}
	close(todo)
	workers.Wait()
	if after := eventually(func() resources { return counted(t) }, before); after.files > before.files || after.goroutines > before.goroutines {
		t.Errorf("%+v, before %+v", after, before)
	}
}

func (f fault) machine(t *testing.T) *machine {
	k := kerneltest.New()
	if f.setUp != nil {
		f.setUp(k)
	}
	m := newMachine(t, k, fixture618)
	if f.files != nil {
		f.files(m.proc)
	}
	if f.slow {
		m.timeout = "2.5" // 2 s for a look, half of them for the devices
	}
	return m
}

// breaksLater breaks a machine that has been scraped before.
func (f fault) breaksLater(t *testing.T) {
	m := f.machine(t)
	m.exposition()
	before, sockets := m.exposition(), m.sockets()
	if logged := m.log.take(); len(logged) > 0 {
		t.Fatalf("in good health it logs %q", logged)
	}
	f.check(m, before, f.later)
	if got := eventually(m.sockets, sockets); got != sockets {
		t.Errorf("open sockets %s, before the fault %s", got, sockets)
	}
}

// breaksFirst breaks a machine before it is scraped, and compares with another that is whole.
func (f fault) breaksFirst(t *testing.T) {
	whole := f.machine(t)
	whole.exposition()
	f.check(f.machine(t), whole.exposition(), f.atStart())
}

// check scrapes while the fault lasts, three times once it has shown (or twice, when each takes long), and once more when it is mended.
func (f fault) check(m *machine, before scrape.Metrics, o outcome) {
	m.t.Helper()
	mend := f.broke(m)
	_, background := o.fails["wire"]
	if background = background || len(o.log) > 0; background {
		m.exposition()
	}
	for i := range 3 {
		if background { // what happens there takes a moment to show
			time.Sleep(300 * time.Millisecond)
		}
		if i < 2 || !f.slow {
			compare(m.t, before, m.exposition(), o)
		}
	}
	want := slices.Clone(o.log)
	for name, status := range o.fails {
		level := "level=WARN"
		if status == node.None {
			level = "level=INFO"
		}
		want = append(want, level+` .*collector=`+name+` status=`+string(status))
	}
	expectLog(m.t, m.log.take(), want)

	if o.told {
		time.Sleep(300 * time.Millisecond) // and breaks once more
	}
	mend()
	if f.slow || len(o.mended) > 0 {
		time.Sleep(1500 * time.Millisecond) // what hung comes back, and what is looked for once a second is found
	}
	if o.told {
		compare(m.t, before, m.exposition(), o)
		time.Sleep(300 * time.Millisecond)
	}
	compare(m.t, before, m.exposition(), outcome{})
	want = slices.Clone(o.mended)
	for name := range o.fails {
		want = append(want, "level=INFO .*reads again.* collector="+name)
	}
	expectLog(m.t, m.log.take(), want)
}

// compare demands that now is before, but for what the fault is said to change.
func compare(t *testing.T, before, now scrape.Metrics, o outcome) {
	t.Helper()
	match := func(pattern, series string) bool {
		return pattern != "" && regexp.MustCompile("^(?:"+pattern+")").MatchString(series)
	}
	want := maps.Clone(before)
	for name, status := range o.fails {
		want[scrape.Series("vxlan_scrape_collector_success", map[string]string{"collector": name})] = 0
		if status == node.None {
			want[scrape.Series("vxlan_scrape_collector_success", map[string]string{"collector": name})] = 1
		}
		if status == node.NotPermitted {
			want[scrape.Series("vxlan_scrape_collector_not_permitted", map[string]string{"collector": name})] = 1
		}
	}
	for series, value := range o.becomes {
		if was, there := before[series]; !there || was == value {
			t.Errorf("%s cannot become %v: it is %v", series, value, was)
		}
		want[series] = value
	}
	vanished := 0
	for series, value := range want {
		got, there := now[series]
		switch {
		case match(o.lost, series):
			if vanished++; there {
				t.Errorf("%s %v, should be gone", series, got)
			}
		case match(o.changed, series):
		case !there:
			t.Errorf("%s is gone", series)
		case got != value:
			t.Errorf("%s %v, want %v", series, got, value)
		}
	}
	if o.lost != "" && vanished == 0 {
		t.Errorf("nothing that could be lost matches %s", o.lost)
	}
	for series, value := range now {
		if _, there := want[series]; !there && !match(o.changed, series) {
			t.Errorf("%s %v is new", series, value)
		}
	}
}

// expectLog demands that the lines match the patterns, each line one and each pattern one.
func expectLog(t *testing.T, logged, patterns []string) {
	t.Helper()
	left := slices.Clone(logged)
	for _, p := range patterns {
		re := regexp.MustCompile(p)
		i := slices.IndexFunc(left, re.MatchString)
		if i < 0 {
			t.Errorf("nothing logged like %q in %q", p, logged)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("logged besides: %q", left)
	}
}

// TestEveryCollectorHasFaults fails when a collector is added that no fault is tried on.
func TestEveryCollectorHasFaults(t *testing.T) {
	tried := map[string]int{}
	for _, f := range faults() {
		for name := range f.atStart().fails {
			tried[name]++
		}
	}
	for _, c := range collectorNames() {
		if tried[c.name] < 3 {
			t.Errorf("%d faults are tried on collector %s", tried[c.name], c.name)
		}
		delete(tried, c.name)
	}
	for name := range tried {
		t.Errorf("there is no collector %s", name)
	}
}
