package capture_test

import (
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/capture"
)

// busy is a NIC with a load on a clock of its own.
type busy struct {
	*hostile
	t       *testing.T
	capture *capture.Capture
	windows *capture.Windows
	conf    capture.WindowsConfig
	now     time.Time

	in, out           float64 // packets per second
	received, sent    float64
	suspected         bool
	seenIn, seenOut   float64 // seconds
	countIn, countOut float64 // what is counted for each packet that passed, in seconds
}

func newBusy(t *testing.T) *busy {
	b := &busy{t: t, now: time.Unix(1000, 0), hostile: &hostile{iface: capture.Interface{Index: 1, MTU: 1500, Up: true}}}
	b.receive = func(*capture.Message) error { return unix.EAGAIN }
	var err error
	if b.capture, err = capture.NewCapture(capture.Config{Ratio: 1, Open: b.open}); err != nil {
		t.Fatal(err)
	}
	b.takes = func() { b.pass(12 * time.Millisecond) }
	b.conf = capture.WindowsConfig{Now: func() time.Time { return b.now }, Suspected: func(time.Time) bool { return b.suspected }}
	b.windows = capture.NewWindows(b.capture, b.conf)
	return b
}

// pass lets time pass and packets with it.
func (b *busy) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.received += b.in * d.Seconds()
	b.sent += b.out * d.Seconds()
	b.iface.Counts = capture.Counts{Received: uint64(b.received), Sent: uint64(b.sent)}
	if b.resting {
		return
	}
	b.seenIn += d.Seconds()
	b.countIn += d.Seconds() / b.capture.State().Duty.In
	if !b.ignoring {
		b.seenOut += d.Seconds()
		b.countOut += d.Seconds() / b.capture.State().Duty.Out
	}
}

// run lets time pass at rates, with a reader that is a little late, and returns the parts of it that were seen and counted.
func (b *busy) run(in, out float64, d time.Duration) (seen, counted capture.Duty) {
	b.t.Helper()
	b.in, b.out = in, out
	b.seenIn, b.seenOut, b.countIn, b.countOut = 0, 0, 0, 0
	start := b.now
	for b.now.Sub(start) < d {
		b.pass(7 * time.Millisecond)
		if b.now.Before(b.windows.Next()) && !b.suspected { // the reader steps after every packet, too
			continue
		}
		if err := b.windows.Step(func(capture.Packet) {}); err != nil {
			b.t.Fatal(err)
		}
	}
	all := b.now.Sub(start).Seconds()
	return capture.Duty{In: b.seenIn / all, Out: b.seenOut / all}, capture.Duty{In: b.countIn / all, Out: b.countOut / all}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 0.05*want }

// TestWindows: a NIC is watched all the time while it carries little, and in proportion when it carries much; what is counted is what
// passed.
func TestWindows(t *testing.T) {
	for _, tt := range []struct {
		name    string
		in, out float64
		want    capture.Duty
		rests   bool
	}{
		{"little", 95_000, 95_000, capture.Duty{In: 1, Out: 1}, false},
		{"a little more", 110_000, 10, capture.Duty{In: 1, Out: 1}, false},
		{"receiver", 400_000, 20_000, capture.Duty{In: 0.25, Out: 0.25}, true},
		{"sender", 20_000, 500_000, capture.Duty{In: 1, Out: 0.1}, false},
		{"both", 200_000, 400_000, capture.Duty{In: 0.5, Out: 0.125}, true},
		{"flood", 10e6, 10e6, capture.Duty{In: 0.01, Out: 0.005}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBusy(t)
			b.run(tt.in, tt.out, 5*time.Second)
			binds := b.bound
			seen, counted := b.run(tt.in, tt.out, 300*time.Second)
			if got := b.capture.State().Duty; !near(got.In, tt.want.In) || !near(got.Out, tt.want.Out) {
				t.Errorf("duty %+v, want %+v", got, tt.want)
			}
			if !near(seen.In, tt.want.In) || !near(seen.Out, tt.want.Out) || !near(counted.In, 1) || !near(counted.Out, 1) {
				t.Errorf("seen %+v of the time, want %+v; counted %+v", seen, tt.want, counted)
			}
			if (b.bound > binds) != tt.rests || b.bound-binds > 300*5.5 {
				t.Errorf("bound %d times in 300 s", b.bound-binds)
			}
			// And all the time again, once there is little.
			b.run(1000, 1000, 5*time.Second)
			seen, counted = b.run(1000, 1000, 10*time.Second)
			if all := (capture.Duty{In: 1, Out: 1}); b.capture.State().Duty != all || seen != counted || !near(seen.In, 1) || !near(seen.Out, 1) {
				t.Errorf("afterwards: duty %+v, seen %+v, counted %+v", b.capture.State().Duty, seen, counted)
			}
		})
	}
}

// TestWindowsSuspicion: five times as much is seen while a failure may be under way.
func TestWindowsSuspicion(t *testing.T) {
	b := newBusy(t)
	b.run(400_000, 400_000, 10*time.Second)
	b.suspected = true
	b.run(400_000, 200_000, 500*time.Millisecond)
	if seen, counted := b.run(400_000, 200_000, 20*time.Second); seen != counted || !near(seen.In, 1) || !near(seen.Out, 1) {
		t.Errorf("suspected: seen %+v, counted %+v", seen, counted)
	}
	b.run(2e6, 2e6, time.Second)
	if seen, counted := b.run(2e6, 2e6, 100*time.Second); !near(seen.In, 0.25) || !near(seen.Out, 0.125) || !near(counted.In, 1) || !near(counted.Out, 1) {
		t.Errorf("suspected, and much more traffic: seen %+v, counted %+v", seen, counted)
	}
	b.suspected = false
	b.run(400_000, 400_000, time.Second)
	if seen, _ := b.run(400_000, 400_000, 100*time.Second); !near(seen.In, 0.25) || !near(seen.Out, 0.125) {
		t.Errorf("afterwards: seen %+v", seen)
	}
	// Where only a sample can be looked at, nothing would be gained.
	if err := b.capture.SetRatio(0.01, func(capture.Packet) {}); err != nil {
		t.Fatal(err)
	}
	b.suspected = true
	if seen, _ := b.run(400_000, 400_000, 100*time.Second); !near(seen.In, 0.25) {
		t.Errorf("sampled: seen %+v", seen)
	}
}

// TestWindowsAggregated: what the NIC receives in many packets and the kernel handles in few is seen all the time.
func TestWindowsAggregated(t *testing.T) {
	b := newBusy(t)
	b.conf.Handled = func() (uint64, error) { return uint64(b.received / 20), nil }
	b.windows = capture.NewWindows(b.capture, b.conf)
	if seen, _ := b.run(800_000, 10_000, 20*time.Second); !near(seen.In, 1) || b.bound != 1 {
		t.Errorf("seen %+v", seen)
	}
	b.conf.Handled = func() (uint64, error) { return 0, errors.New("no such file") }
	b.windows = capture.NewWindows(b.capture, b.conf)
	b.run(800_000, 10_000, time.Second)
	if seen, _ := b.run(800_000, 10_000, 100*time.Second); !near(seen.In, 0.125) {
		t.Errorf("without a count of what is handled: seen %+v", seen)
	}
}

// TestWindowsWithoutCounts: an interface that tells nothing is watched in full.
func TestWindowsWithoutCounts(t *testing.T) {
	b := newBusy(t)
	b.run(400_000, 400_000, 10*time.Second)
	b.ifaceErr = errors.New("no such device")
	b.run(400_000, 400_000, 5*time.Second)
	if seen, counted := b.run(400_000, 400_000, 10*time.Second); !near(seen.In, 1) || seen != counted {
		t.Errorf("seen %+v, counted %+v", seen, counted)
	}
}

// TestWindowsOldKernel: a kernel that cannot ignore outgoing packets (before 4.20) is asked once, and sees them as it sees the others.
func TestWindowsOldKernel(t *testing.T) {
	b := newBusy(t)
	b.ignore = os.NewSyscallError("setsockopt", unix.ENOPROTOOPT)
	b.run(400_000, 1e6, 10*time.Second)
	if seen, counted := b.run(400_000, 1e6, 100*time.Second); seen.In != seen.Out || !near(seen.In, 0.25) || !near(counted.Out, 1) || b.ignored > 1 {
		t.Errorf("seen %+v, counted %+v, asked %d times", seen, counted, b.ignored)
	}
}

// TestWindowsAfterTheInterfaceWasAway: what somebody else has left open or shut is seen in full again.
func TestWindowsAfterTheInterfaceWasAway(t *testing.T) {
	b := newBusy(t)
	b.run(400_000, 400_000, 10*time.Second)
	for !b.resting {
		b.run(400_000, 400_000, 10*time.Millisecond)
	}
	b.bind = os.NewSyscallError("bind", unix.ENODEV)
	b.now = b.windows.Next()
	if err := b.windows.Step(func(capture.Packet) {}); !errors.Is(err, capture.ErrDown) {
		t.Fatalf("gone: %v", err)
	}
	b.bind = nil
	if err := b.capture.Update(nil); err != nil || b.resting {
		t.Fatalf("back: %v, resting %v", err, b.resting)
	}
	b.windows = capture.NewWindows(b.capture, b.conf)
	b.run(1000, 1000, 50*time.Millisecond)
	if seen, counted := b.run(1000, 1000, 10*time.Second); seen != counted || !near(seen.Out, 1) {
		t.Errorf("seen %+v, counted %+v", seen, counted)
	}
}
