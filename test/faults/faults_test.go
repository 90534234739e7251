// Package faults_test breaks every source of the exporter, one after the other, on a kernel in memory.
package faults_test

import (
	"maps"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/scrape"
)

// A fault breaks something of a machine; what it returns mends it.
type fault struct {
	name  string
	setUp func(k *kerneltest.Kernel) // of a kernel that is peculiar, but works
	files func(p *kerneltest.Proc)   // the same, of its procfs
	broke func(m *machine) (mend func())
	slow  bool // deadlines are missed: each look takes its time
	hangs bool // in a system call, on the real clock

	// What becomes of an exporter that has been scraped before, and of one that begins with the fault. start nil: the
	// same.
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

// TestFaults breaks one source after the other under a whole exporter, while it runs and before it starts, and compares
// the exposition before, during and after. The clock is virtual, and no goroutine may be left (testing/synctest); no
// file is left open either.
func TestFaults(t *testing.T) {
	before := openFiles(t)
	t.Run("all", func(t *testing.T) {
		for _, f := range faults() {
			f.run(t, f.name+"/later", f.breaksLater)
			f.run(t, f.name+"/at the start", f.breaksFirst)
		}
	})
	if after := openFiles(t); after > before {
		t.Errorf("%d open files, before %d", after, before)
	}
}

// run is t.Run with a virtual clock, where that can be: it stands still while a goroutine is in a system call.
func (f fault) run(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		if f.hangs {
			test(t)
		} else {
			synctest.Test(t, test)
		}
	})
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
	switch {
	case f.hangs:
		m.timeout = "10.5" // a busy machine must have time for all else
	case f.slow:
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

// check scrapes while the fault lasts, three times once it has shown (or twice, when each takes long), and once more
// when it is mended.
func (f fault) check(m *machine, before scrape.Metrics, o outcome) {
	m.t.Helper()
	mend := f.broke(m)
	broken := 0
	failsAnew := func() { // each scrape begins anew what has failed since the last
		eventually(func() bool { return m.kernel.BrokenPacketSockets() > broken }, true)
		broken = m.kernel.BrokenPacketSockets()
		time.Sleep(50 * time.Millisecond)
	}
	if o.told && m.scraped {
		failsAnew()
	}
	_, background := o.fails["wire"]
	if background = background || len(o.log) > 0; background {
		m.exposition()
	}
	m.log.await(o.log)
	for i := range 3 {
		switch {
		case o.told:
			failsAnew()
		case background: // what happens there takes a moment to show
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
		failsAnew()
	}
	mend()
	if f.slow || len(o.mended) > 0 {
		time.Sleep(1500 * time.Millisecond) // what hung comes back, and what is looked for once a second is found
		m.log.await(o.mended)
	}
	if o.told {
		compare(m.t, before, m.exposition(), o)
		time.Sleep(300 * time.Millisecond)
	}
	compare(m.t, before, m.exposition(), outcome{})
	want = slices.Clone(o.mended)
	for name := range o.fails {
		want = append(want, "level=INFO .*works again.* collector="+name)
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
	// Senders and receivers are judged from several collectors; they must be as before once all is mended.
	judged := ""
	if len(o.fails) > 0 || o.lost+o.changed != "" || len(o.becomes) > 0 {
		judged = `vxlan_(sender|receiver)_`
	}
	vanished := 0
	for series, value := range want {
		got, there := now[series]
		switch {
		case match(o.lost, series):
			if vanished++; there {
				t.Errorf("%s %v, should be gone", series, got)
			}
		case match(o.changed, series), match(judged, series):
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
		if _, there := want[series]; !there && !match(o.changed, series) && !match(judged, series) {
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
	for _, c := range collectors.Kinds() {
		if tried[c.Name] < 3 && c.Name != "path" { // which sends packets: package probe has its faults
			t.Errorf("%d faults are tried on collector %s", tried[c.Name], c.Name)
		}
		delete(tried, c.Name)
	}
	for name := range tried {
		t.Errorf("there is no collector %s", name)
	}
}
