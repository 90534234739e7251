package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/collectors"
	"vxlan_exporter/exporter"
	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/selftest/store"
	"vxlan_exporter/test/lab/scrape"
)

// machine is a whole exporter on a kernel that can be broken: all collectors switched on, everything read anew by every
// scrape.
type machine struct {
	t       *testing.T
	kernel  *kerneltest.Kernel
	proc    *kerneltest.Proc
	handler http.Handler
	log     *lines
	timeout string // X-Prometheus-Scrape-Timeout-Seconds
	scraped bool
}

// Fixtures of a procfs, and what belongs to them.
const (
	fixture618 = "../../collectors/testdata/proc-6.18"
	fixture310 = "../../collectors/testdata/proc-3.10"
)

func newMachine(t *testing.T, k *kerneltest.Kernel, fixture string) *machine {
	t.Helper()
	m := &machine{t: t, kernel: k, proc: kerneltest.NewProc(t, fixture), log: &lines{}, timeout: "3"}
	m.proc.Write("os-release", "ID=debian\nVERSION_ID=\"12\"\n")
	m.storeSelfTest()
	logger := slog.New(slog.NewTextHandler(m.log, nil))
	o := collectors.Options{
		Proc: m.proc.Root, Ports: []string{"8472", "4789"}, Logger: logger, Enabled: map[string]bool{},
		Kernel:   collectors.KernelConfig{OSRelease: m.proc.Path("os-release"), SelfTestFile: m.proc.Path("selftest.json")},
		Device:   collectors.DeviceConfig{OpenRoute: k.OpenRoute, OpenIoctl: k.OpenIoctl, OpenLinks: k.OpenLinks},
		Counters: k.OpenCounters,
		Conntrack: collectors.ConntrackConfig{
			Strategy: conntrack.Auto, Timeout: collectors.DefaultConntrackTimeout, Open: k.OpenConntrack,
		},
		Wire: collectors.WireConfig{
			MaxPeers: 64, SampleRate: 1, MaxPacketsPerSecond: 1000, Open: k.OpenPacket,
			Listen: silent,
		},
		NATRules: collectors.NATRulesConfig{
			Reader: natrules.NewReader(natrules.Config{
				Proc: m.proc.Root, Sys: m.proc.Root, Boot: m.proc.Root, Modules: m.proc.Root,
				OpenNFTables: k.OpenNFTables, OpenLegacy: k.OpenLegacy, OpenIPSets: k.OpenIPSets,
			}),
			OpenRoute: k.OpenSurroundings,
		},
	}
	for _, kind := range collectors.Kinds() {
		o.Enabled[kind.Name] = kind.On || kind.Name == "wire"
	}
	set, err := collectors.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	for _, run := range set.Background {
		background.Go(func() { run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		background.Wait()
	})
	m.handler = exporter.NewServer(exporter.Config{
		Observer: exporter.NewObserver(logger, set.First, set.Rest...), Self: prometheus.NewRegistry(),
		TelemetryPath: "/metrics", TimeoutOffset: 500 * time.Millisecond, Logger: logger,
	}).Handler()
	return m
}

// noEvents is a subscription to link events that never come.
type noEvents struct{ ended chan struct{} }

func silent() (rtnl.Events, error) { return &noEvents{make(chan struct{}, 1)}, nil }

func (e *noEvents) Receive() ([]netlink.Message, error) {
	<-e.ended
	return nil, os.ErrDeadlineExceeded
}

func (e *noEvents) SetReadDeadline(time.Time) error {
	select {
	case e.ended <- struct{}{}:
	default:
	}
	return nil
}

func (e *noEvents) Close() error { return nil }

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
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BootID: read("sys/kernel/random/boot_id"),
		Release: read("sys/kernel/osrelease"),
		Results: []node.SelfTestResult{{
			Variant: node.OffloadedChecksum, Family: node.IPv4, Verdict: "affected",
			Evidence: &node.Sums{Correct: 1},
		}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// moving are series whose values differ from one scrape to the next in the best of health.
var moving = regexp.MustCompile(
	`^vxlan_(scrape_collector_duration_seconds|conntrack_scan_(age|duration|timestamp|longest_receive)_seconds` +
		`|conntrack_last_snat_timestamp_seconds)`)

// exposition scrapes and returns the exposition text's samples; those that move are 0.
func (m *machine) exposition() scrape.Metrics {
	m.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", m.timeout)
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	m.scraped = true
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

// await waits until a line with each text was logged since the last take, or for too long.
func (l *lines) await(texts []string) {
	for _, text := range texts {
		eventually(func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.ContainsFunc(l.all, func(line string) bool { return strings.Contains(line, text) })
		}, true)
	}
}

// take returns what was logged since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.all
	l.all = nil
	return taken
}

// openFiles counts those of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
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
