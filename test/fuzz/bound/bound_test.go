package bound

import (
	"fmt"
	"testing"
	"time"
)

// failures is a test that only notes what went wrong.
type failures struct {
	testing.TB
	all []string
}

func (f *failures) Helper()                        {}
func (f *failures) Errorf(format string, a ...any) { f.all = append(f.all, fmt.Sprintf(format, a...)) }

var sink []byte

// once makes f do nothing from its second call on.
func once(f func()) func() {
	called := false
	return func() {
		if !called {
			f()
		}
		called = true
	}
}

func TestRead(t *testing.T) {
	const cpu = 200 * time.Millisecond
	for name, c := range map[string]struct {
		f    func()
		want int
	}{
		"modest": {func() { sink = make([]byte, 1000) }, 0},
		"greedy": {func() { sink = make([]byte, 10<<20) }, 1},
		"greedy and freed again": {func() {
			for range 100 {
				sink = make([]byte, 100_000)
			}
		}, 1},
		"greedy once, as the allocator is now and then": {once(func() { sink = make([]byte, 10<<20) }), 0},

		"waits":    {func() { time.Sleep(2 * cpu) }, 0},
		"computes": {func() { burn(cpu + time.Millisecond) }, 1},
	} {
		f := &failures{TB: t}
		read(f, cpu, 10, 100, 1<<20, c.f)
		if len(f.all) != c.want {
			t.Errorf("%s: %q", name, f.all)
		}
	}
}

// burn spends CPU time of this thread.
func burn(d time.Duration) {
	t := &failures{}
	for start := threadTime(t); threadTime(t)-start < d; {
	}
}
