// Package bound holds readers of hostile bytes to limits on memory and time. It is for tests.
package bound

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the most CPU time that reading one input may take. The slowest readers need a few milliseconds for the largest
// inputs; a reader that loops, or whose effort grows with the square of the input, needs more than this. It is CPU time
// of the thread, so that a busy machine makes no difference.
const CPU = 2 * time.Second

// slack is how much of what was allocated before, or by another goroutine, may be counted as the reader's: the runtime
// counts small objects by whole spans, of all CPUs, and some of them late.
const slack = 1 << 20

// tries is how often an input may be read before it counts as too costly. A reader that is greedy is so each time; what
// the runtime, the fuzzing engine or a garbage collection adds, the spans of all size classes for one, which it sets up
// anew, comes once.
const tries = 4

// Read calls f, which reads an input of size bytes, and fails the test when f allocates more than fixed bytes (and
// slack) and perByte for each byte of the input, or takes more than CPU. What f has allocated and freed again counts
// too. f is called again when it went beyond a bound, and must do the same again. Not for parallel tests.
func Read(t testing.TB, size, perByte, fixed int, f func()) {
	t.Helper()
	read(t, CPU, size, perByte, fixed, f)
}

func read(t testing.TB, cpu time.Duration, size, perByte, fixed int, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	limit := slack + uint64(fixed) + uint64(perByte)*uint64(size)
	var got uint64
	var took time.Duration
	for range tries {
		allocated, used := allocations(), threadTime(t)
		f()
		took, got = threadTime(t)-used, allocations()-allocated
		if got <= limit && took <= cpu {
			return
		}
	}
	if got > limit {
		t.Errorf("%d bytes of input made the reader allocate %d bytes, more than %d", size, got, limit)
	}
	if took > cpu {
		t.Errorf("%d bytes of input took %s of CPU time, more than %s", size, took, cpu)
	}
}

// allocations is how much this process has allocated on the heap since it began.
func allocations() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func threadTime(t testing.TB) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
