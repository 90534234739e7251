package exporter

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// systemd is the receiving end of sd_notify: it remembers when it was told what.
type systemd struct {
	mu    sync.Mutex
	start time.Time
	fed   []time.Duration
	err   error
}

func newSystemd() *systemd { return &systemd{start: time.Now()} }

func (s *systemd) notify(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != "WATCHDOG=1" {
		return errors.New("told " + state)
	}
	s.fed = append(s.fed, time.Since(s.start))
	return s.err
}

// longest is the longest time without food from the start to now.
func (s *systemd) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, longest := time.Duration(0), time.Duration(0)
	for _, t := range append(s.fed, time.Since(s.start)) {
		longest, last = max(longest, t-last), t
	}
	return longest
}

func (s *systemd) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fed)
}

const interval = time.Minute

// watch runs a watchdog for the rest of the test and returns its log.
func watch(t *testing.T, alive func(context.Context) error, sd *systemd) *logBuffer {
	t.Helper()
	log := &logBuffer{}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		Watchdog(ctx, interval, alive, sd.notify, slog.New(slog.NewTextHandler(log, nil)))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return log
}

func TestWatchdogIsFedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sd := newSystemd()
		log := watch(t, newObserver(&logBuffer{}, &fake{name: "fine", observe: filled}).Alive, sd)
		time.Sleep(time.Hour)
		if d := sd.longest(); d > interval/2 {
			t.Errorf("not fed for %s of %s", d, interval)
		}
		if n := sd.times(); n < 120 || n > 121 {
			t.Errorf("fed %d times in an hour", n)
		}
		if log.String() != "" {
			t.Errorf("logged:\n%s", log)
		}
	})
}

func TestWatchdogOfSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sd := newSystemd()
		// Overruns every deadline, yet answers: no reason to restart.
		slow := &fake{name: "slow", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
			time.Sleep(hangLimit - time.Second)
			return nil, syscall.EIO
		}}
		t.Cleanup(func() { time.Sleep(hangLimit) }) // the last answer
		watch(t, newObserver(&logBuffer{}, slow, &fake{name: "broken", observe: fails(syscall.EPERM)}).Alive, sd)
		time.Sleep(time.Hour)
		if d := sd.longest(); d >= interval {
			t.Errorf("not fed for %s of %s", d, interval)
		}
	})
}

func TestWatchdogOfHungReader(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sd, stuck, release := newSystemd(), make(chan struct{}), make(chan struct{})
			hung := &fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
				select {
				case <-stuck:
					<-release
				default:
				}
				return func(*node.Node) {}, nil
			}}
			cs := []collectors.Collector{hung, &fake{name: "fine", observe: filled}}
			if !first {
				cs[0], cs[1] = cs[1], cs[0]
			}
			o := NewObserver(slog.New(slog.DiscardHandler), cs[0], cs[1:]...)
			log := watch(t, o.Alive, sd)
			time.Sleep(10 * interval)
			if d := sd.longest(); d > interval/2 {
				t.Fatalf("not fed for %s while all was well", d)
			}
			before := sd.times()
			close(stuck)
			time.Sleep(10 * interval)
			// Two more: the question under way when it hung, and one that finds it late but not yet stuck.
			if n := sd.times() - before; n > 2 {
				t.Errorf("fed %d times while a reader was stuck", n)
			}
			if d := sd.longest(); d < interval {
				t.Errorf("never left unfed for longer than %s: systemd would not restart it", d)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "hung (for ") {
				t.Errorf("%d errors logged, want 1 that names the reader:\n%s", n, log)
			}
			before = sd.times()
			close(release)
			time.Sleep(10 * interval)
			if n := sd.times() - before; n < 18 {
				t.Errorf("fed %d times after the reader had come back", n)
			}
			if n := strings.Count(log.String(), "answer again"); n != 1 {
				t.Errorf("%d lines of recovery, want 1:\n%s", n, log)
			}
		})
	}
}

func TestWatchdogOfQuestionWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		sd, release := newSystemd(), make(chan struct{})
		// What a deadlock would observation like: the deadline passes unseen.
		log := watch(t, func(context.Context) error {
			asked.Add(1)
			<-release
			return nil
		}, sd)
		time.Sleep(10 * interval)
		if n := sd.times(); n != 0 {
			t.Errorf("fed %d times", n)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, which piles up goroutines", n)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors, want 1:\n%s", n, log)
		}
		close(release)
		time.Sleep(interval)
		if sd.times() == 0 {
			t.Error("not fed after the answer came")
		}
	})
}

func TestWatchdogGoesOnWhenSystemdIsNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sd := newSystemd()
		sd.err = syscall.ECONNREFUSED
		log := watch(t, func(context.Context) error { return nil }, sd)
		time.Sleep(3 * interval)
		if n := sd.times(); n < 5 {
			t.Errorf("told %d times", n)
		}
		if !strings.Contains(log.String(), "connection refused") {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestWatchdogThatNobodyAskedFor(t *testing.T) {
	asked := false
	Watchdog(t.Context(), 0, func(context.Context) error { asked = true; return nil },
		func(string) error { asked = true; return nil }, slog.New(slog.DiscardHandler))
	if asked {
		t.Error("without WATCHDOG_USEC there is nothing to do")
	}
}
