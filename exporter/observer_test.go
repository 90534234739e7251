package exporter

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// fake is a collector that does what its functions say.
type fake struct {
	name    string
	calls   atomic.Int32
	observe func(ctx context.Context, known *node.Node) (collectors.Fill, error)
}

func (f *fake) Name() string { return f.name }

func (f *fake) Observe(ctx context.Context, known *node.Node) (collectors.Fill, error) {
	f.calls.Add(1)
	return f.observe(ctx, known)
}

func (f *fake) desc() *prometheus.Desc {
	return prometheus.NewDesc("vxlan_test_"+f.name, "Test.", nil, nil)
}

func (f *fake) Declared() []collectors.Metric { return nil }

func (f *fake) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc() }

func (f *fake) Publish(_ *node.Node, ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(f.desc(), prometheus.GaugeValue, 1)
}

func filled(context.Context, *node.Node) (collectors.Fill, error) { return func(*node.Node) {}, nil }

func fails(err error) func(context.Context, *node.Node) (collectors.Fill, error) {
	return func(context.Context, *node.Node) (collectors.Fill, error) { return nil, err }
}

// devices is a first collector that finds one device.
func devices() *fake {
	return &fake{name: "device", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
		return func(n *node.Node) { n.Ports = []node.Port{{Port: 8472, IPv4: true}} }, nil
	}}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newObserver(log *logBuffer, rest ...*fake) *Observer {
	var cs []collectors.Collector
	for _, f := range rest {
		cs = append(cs, f)
	}
	return NewObserver(slog.New(slog.NewTextHandler(log, nil)), devices(), cs...)
}

func observe(t *testing.T, o *Observer, timeout time.Duration) *Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return o.Observe(ctx)
}

func TestDevicesAreKnownToTheOthers(t *testing.T) {
	var seen []node.Port
	c := &fake{name: "c", observe: func(_ context.Context, known *node.Node) (collectors.Fill, error) {
		seen = known.Ports
		return func(n *node.Node) { n.Sockets = nil }, nil
	}}
	got := observe(t, newObserver(&logBuffer{}, c), time.Second)
	if len(seen) != 1 || seen[0].Port != 8472 {
		t.Errorf("the second collector saw ports %v", seen)
	}
	if len(got.Node.Ports) != 1 || !got.Answered["c"] || got.Node.Results["c"].Status != node.OK {
		t.Errorf("observation %+v", got)
	}
}

func TestErrorsCostTheirOwnCollectorOnly(t *testing.T) {
	log := &logBuffer{}
	o := newObserver(log,
		&fake{name: "fine", observe: filled},
		&fake{name: "refused", observe: fails(syscall.EPERM)},
		&fake{name: "missing", observe: fails(fs.ErrNotExist)},
		&fake{name: "old", observe: fails(syscall.EOPNOTSUPP)},
		&fake{name: "broken", observe: fails(errors.New("broken"))},
		&fake{name: "partly", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
			return func(n *node.Node) { n.Host.UDP4.InErrors = new(uint64) }, errors.New("a bad line")
		}},
		&fake{name: "panics", observe: func(context.Context, *node.Node) (collectors.Fill, error) { panic("boom") }},
	)
	var got *Observation
	for range 3 {
		got = observe(t, o, time.Second)
	}
	want := map[string]node.Status{
		"device": node.OK, "fine": node.OK, "refused": node.NotPermitted, "missing": node.None, "old": node.Unsupported,
		"broken": node.Failed, "partly": node.Failed, "panics": node.Failed,
	}
	for name, status := range want {
		if r := got.Node.Results[name]; r.Status != status {
			t.Errorf("%s: %+v, want %s", name, r, status)
		}
		if answered := name == "device" || name == "fine" || name == "partly"; got.Answered[name] != answered {
			t.Errorf("%s: answered %v", name, got.Answered[name])
		}
	}
	if got.Node.Host.UDP4.InErrors == nil {
		t.Error("what could be read was thrown away")
	}
	for _, name := range []string{"refused", "broken", "partly"} {
		if n := strings.Count(log.String(), "collector="+name); n != 1 {
			t.Errorf("%s: %d log lines after three looks, want 1\n%s", name, n, log)
		}
	}
	// the panic with its place, and the change of the status
	if n := strings.Count(log.String(), "collector=panics"); n != 2 {
		t.Errorf("panics: %d log lines after three looks, want 2\n%s", n, log)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "observer_test.go") {
		t.Errorf("the panic's place is not logged:\n%s", log)
	}
}

func TestRecoveryIsLoggedOnce(t *testing.T) {
	log := &logBuffer{}
	err := errors.New("broken")
	o := newObserver(log,
		&fake{name: "c", observe: func(context.Context, *node.Node) (collectors.Fill, error) { return nil, err }})
	observe(t, o, time.Second)
	err = nil
	observe(t, o, time.Second)
	observe(t, o, time.Second)
	if n := strings.Count(log.String(), "collector works again"); n != 1 {
		t.Errorf("%d lines of recovery, want 1:\n%s", n, log)
	}
}

func TestHungCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hung := &fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
			<-release // a system call does not observation at the context
			return func(n *node.Node) { n.Hostname = "too late" }, nil
		}}
		log := &logBuffer{}
		o := newObserver(log, hung, &fake{name: "fine", observe: filled})
		for i := range 3 {
			start := time.Now()
			got := observe(t, o, 2*time.Second)
			// The first observation waits for its deadline, the later ones only for a moment.
			if d, want := time.Since(start), map[bool]time.Duration{true: 2 * time.Second, false: grace}[i == 0]; d != want {
				t.Errorf("look %d took %s, want %s", i, d, want)
			}
			if r := got.Node.Results["hung"]; r.Status != node.Failed || got.Answered["hung"] {
				t.Errorf("look %d: hung: %+v", i, r)
			}
			if r := got.Node.Results["fine"]; r.Status != node.OK {
				t.Errorf("look %d: fine: %+v", i, r)
			}
			synctest.Wait()
		}
		if n := hung.calls.Load(); n != 1 {
			t.Errorf("the hung collector was called %d times", n)
		}
		close(release)
		synctest.Wait()
		got := observe(t, o, 2*time.Second)
		if r := got.Node.Results["hung"]; r.Status != node.OK {
			t.Errorf("after its release: %+v", r)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, log)
		}
	})
}

func TestLateAnswerIsThrownAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newObserver(&logBuffer{},
			&fake{name: "late", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
				time.Sleep(3 * time.Second)
				return func(n *node.Node) { n.Hostname = "too late" }, nil
			}})
		got := observe(t, o, 2*time.Second)
		time.Sleep(5 * time.Second)
		if got.Node.Hostname == "too late" {
			t.Error("an answer changed an observation that had been given out")
		}
	})
}

// slowly answers after a second, and counts how often it was cut short.
func slowly() *fake {
	return &fake{name: "slow", observe: func(ctx context.Context, _ *node.Node) (collectors.Fill, error) {
		select {
		case <-time.After(time.Second):
			return func(*node.Node) {}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

func TestConcurrentCallersShareOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := slowly()
		o := newObserver(&logBuffer{}, slow)
		var wg sync.WaitGroup
		caller := func(timeout time.Duration, want bool) {
			start := time.Now()
			got := observe(t, o, timeout)
			if ok := got.Node.Results["slow"].Succeeded(); ok != want || time.Since(start) != min(timeout, time.Second) {
				t.Errorf("success %v after %s", ok, time.Since(start))
			}
			if len(got.Node.Ports) != 1 {
				t.Error("the devices are missing")
			}
		}
		for range 20 {
			wg.Go(func() { caller(5*time.Second, true) })
		}
		synctest.Wait()
		// One is in a hurry: it gets what there is at its own deadline, and the others are not disturbed.
		wg.Go(func() { caller(100*time.Millisecond, false) })
		wg.Wait()
		if n := slow.calls.Load(); n != 1 {
			t.Errorf("%d readings for 21 callers", n)
		}
	})
}

func TestCallersInAHurryCutNobodyShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := slowly()
		o := newObserver(&logBuffer{}, slow)
		go observe(t, o, 100*time.Millisecond)
		synctest.Wait()
		start := time.Now()
		got := observe(t, o, 5*time.Second)
		if r := got.Node.Results["slow"]; !r.Succeeded() || time.Since(start) > 1100*time.Millisecond {
			t.Errorf("%+v after %s", r, time.Since(start))
		}
		if n := slow.calls.Load(); n != 2 {
			t.Errorf("%d readings, want the one cut short and another", n)
		}
	})
}

// The page's observation takes half as long as a scrape's, and the device collector has half of that.
func TestCallersInAHurryCutNoDevicesShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := slowly()
		o := NewObserver(slog.New(slog.DiscardHandler), device, &fake{name: "fine", observe: filled})
		go observe(t, o, 1500*time.Millisecond)
		synctest.Wait()
		if r := observe(t, o, 5*time.Second).Node.Results["slow"]; !r.Succeeded() {
			t.Errorf("%+v", r)
		}
		if n := device.calls.Load(); n != 2 {
			t.Errorf("%d readings, want the one cut short and another", n)
		}
	})
}

// A scraper that announces timeouts too short for any collector, between those of an honest one, does not fill the log.
func TestScraperInAHurryDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		o := newObserver(log, slowly())
		for range 5 {
			if r := observe(t, o, time.Millisecond).Node.Results["slow"]; r.Succeeded() {
				t.Errorf("%+v", r)
			}
			synctest.Wait()
			if r := observe(t, o, 5*time.Second).Node.Results["slow"]; !r.Succeeded() {
				t.Errorf("%+v", r)
			}
		}
		if log.String() != "" {
			t.Errorf("logged:\n%s", log)
		}
	})
}

func TestCallerThatHangsUpSpoilsNobodysLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newObserver(&logBuffer{}, slowly())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		go o.Observe(ctx)
		synctest.Wait()
		cancel()
		if got := observe(t, o, 5*time.Second); !got.Node.Results["slow"].Succeeded() {
			t.Errorf("reading %+v", got.Node.Results["slow"])
		}
	})
}

func TestHungDeviceReaderLeavesTimeForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &fake{name: "device", observe: func(ctx context.Context, _ *node.Node) (collectors.Fill, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		o := NewObserver(slog.New(slog.DiscardHandler), first, &fake{name: "fine", observe: filled})
		start := time.Now()
		got := observe(t, o, 4*time.Second)
		if !got.Node.Results["fine"].Succeeded() || got.Node.Results["device"].Status != node.Failed {
			t.Errorf("readings %+v", got.Node.Results)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %s", d)
		}
	})
}

// An observation has with it the counters of one that is two minutes old, or the oldest until then; of one whose
// counters could not be read, nothing is kept.
func TestEarlierObservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for every, want := range map[time.Duration][2]time.Duration{ // least and most age
			time.Second:      {diagnosis.Recent, diagnosis.Recent + 2*minRateInterval},
			15 * time.Second: {diagnosis.Recent, diagnosis.Recent},
			time.Minute:      {diagnosis.Recent, diagnosis.Recent}, 5 * time.Minute: {5 * time.Minute, 5 * time.Minute},
		} {
			read := 0
			host := &fake{name: "host", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
				read++
				if read == 3 {
					return nil, errors.New("no counters")
				}
				return func(n *node.Node) { n.Host.UDP4.InCsumErrors = new(uint64(read)) }, nil
			}}
			o := newObserver(&logBuffer{}, host)
			began := time.Now()
			for read < 300 {
				n := observe(t, o, time.Second).Node
				synctest.Wait()
				since := n.Time.Sub(began)
				if (n.Earlier != nil) != (since >= minRateInterval) {
					t.Fatalf("every %s, after %s: earlier %v", every, since, n.Earlier)
				}
				if n.Earlier != nil {
					age := n.Time.Sub(n.Earlier.Time)
					if late := since > diagnosis.Recent+3*every; late && (age < want[0] || age > want[1]) || !late && age > since {
						t.Errorf("every %s, after %s: earlier is %s old", every, since, age)
					}
					if v := n.Earlier.Host.UDP4.InCsumErrors; v == nil || *v == 3 || n.Earlier.Earlier != nil {
						t.Errorf("every %s, after %s: earlier has %+v", every, since, n.Earlier)
					}
				}
				time.Sleep(every)
			}
		}
	})
}
