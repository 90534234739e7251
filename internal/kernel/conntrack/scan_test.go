package conntrack_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"

	"golang.org/x/sys/unix"
)

const port = 8472

var (
	v4   = []conntrack.Target{{Family: unix.AF_INET, Port: port}}
	v4v6 = []conntrack.Target{{Family: unix.AF_INET, Port: port}, {Family: unix.AF_INET6, Port: port}}
)

// flows collects a scan.
type flows struct {
	begun int
	all   []conntrack.Flow
}

func (v *flows) Begin()                  { v.begun, v.all = v.begun+1, nil }
func (v *flows) Visit(f *conntrack.Flow) { v.all = append(v.all, *f) }

// counts is flows, SNATed and DNATed flows of each target.
func (v *flows) counts(targets []conntrack.Target) string {
	n := make([][3]int, len(targets))
	for i := range v.all {
		f := &v.all[i]
		n[f.Target][0]++
		if f.SNAT() {
			n[f.Target][1]++
		}
		if f.DNAT() {
			n[f.Target][2]++
		}
	}
	return fmt.Sprint(n)
}

// procfs writes the sysctls of a table.
func procfs(t testing.TB, count, buckets uint64) string {
	t.Helper()
	proc := t.TempDir()
	setSysctl(t, proc, "nf_conntrack_count", count)
	setSysctl(t, proc, "nf_conntrack_max", 262144)
	setSysctl(t, proc, "nf_conntrack_buckets", buckets)
	setSysctl(t, proc, "nf_conntrack_udp_timeout", 30)
	return proc
}

func setSysctl(t testing.TB, proc, name string, v uint64) {
	t.Helper()
	path := filepath.Join(proc, "sys/net/netfilter", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendln(nil, v), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mixed is a table with everything in it: 40 flows over IPv4, 3 of them SNATed, 1 DNATed and 1 both by tuples alone, 5
// over IPv6.
func mixed() []conntracktest.Flow {
	var all []conntracktest.Flow
	for i := range 40 {
		all = append(all, conntracktest.VXLAN(i, port), conntracktest.TCP(i), conntracktest.UDP(i))
	}
	for i := range 5 {
		all = append(all, conntracktest.VXLAN6(i, port))
	}
	other := netip.MustParseAddrPort("192.0.2.1:9")
	for i := range 3 {
		all[3*i].ReplyDestination = netip.AddrPortFrom(all[3*i].Source.Addr(), 7)
	}
	all[9].ReplySource = other
	all[12].ReplySource, all[12].ReplyDestination = other, other
	return append(all, conntracktest.Decoys(port)...)
}

func TestScanCountsTheSameByEveryStrategy(t *testing.T) {
	for _, strategy := range []conntrack.Strategy{conntrack.Auto, conntrack.Full, conntrack.Filter} {
		for _, old := range []bool{false, true} {
			for _, targets := range [][]conntrack.Target{v4, v4v6} {
				t.Run(fmt.Sprintf("%s/old=%v/families=%d", strategy, old, len(targets)), func(t *testing.T) {
					k := &conntracktest.Kernel{Flows: mixed(), IgnoreFilter: old}
					s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 131, 1024), Strategy: strategy})
					want := "[[40 4 2]]"
					if len(targets) == 2 {
						want = "[[40 4 2] [5 0 0]]"
					}
					tried := false // a filter
					for scan := range 4 {
						var v flows
						stats, err := s.Scan(context.Background(), targets, &v)
						if err != nil {
							t.Fatal(err)
						}
						if got := v.counts(targets); got != want {
							t.Errorf("scan %d (%s): counts %s, want %s", scan, stats.Strategy, got, want)
						}
						if stats.Filtered && old {
							t.Errorf("scan %d: filtered by a kernel that does not", scan)
						}
						if !old && stats.Filtered != (stats.Strategy != conntrack.Full) {
							t.Errorf("scan %d: filtered %v by strategy %s", scan, stats.Filtered, stats.Strategy)
						}
						if old && tried && stats.Strategy != conntrack.Full {
							t.Errorf("scan %d: strategy %s on a kernel known to ignore filters", scan, stats.Strategy)
						}
						tried = tried || stats.Strategy != conntrack.Full
					}
					if err := s.Close(); err != nil || k.Sockets() != 0 {
						t.Errorf("close: %v; %d sockets left open", err, k.Sockets())
					}
				})
			}
		}
	}
}

func TestScanReadsTheFlow(t *testing.T) {
	f := conntracktest.VXLAN(5, port)
	f.Zone = 77
	f.ReplyDestination = netip.MustParseAddrPort("198.51.100.9:1234")
	k := &conntracktest.Kernel{
		Flows:  []conntracktest.Flow{f},
		IDs:    func(int) uint32 { return 0xdeadbeef },
		Status: func(int) uint32 { return 0x198 },
	}
	var v flows
	if _, err := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 1, 64)}).
		Scan(context.Background(), v4, &v); err != nil {
		t.Fatal(err)
	}
	want := conntrack.Flow{
		ID: 0xdeadbeef, Zone: 77, Status: 0x198,
		Source: f.Source, Destination: f.Destination, ReplySource: f.Destination, ReplyDestination: f.ReplyDestination,
	}
	if len(v.all) != 1 || v.all[0] != want {
		t.Errorf("flows %+v, want %+v", v.all, want)
	}
}

// The kernel's own NAT sets a bit even where the tuples agree, and IPVS changes the tuples and sets none.
func TestNATByBitsAndByTuples(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	for _, c := range []struct {
		name       string
		flow       conntrack.Flow
		snat, dnat bool
	}{
		{
			"plain",
			conntrack.Flow{Status: 0x188, Source: a, Destination: b, ReplySource: b, ReplyDestination: a},
			false, false,
		},
		{
			"source bit",
			conntrack.Flow{Status: 0x198, Source: a, Destination: b, ReplySource: b, ReplyDestination: a},
			true, false,
		},
		{
			"destination bit",
			conntrack.Flow{Status: 0x1a8, Source: a, Destination: b, ReplySource: b, ReplyDestination: a},
			false, true,
		},
		{"source tuple", conntrack.Flow{Source: a, Destination: b, ReplySource: b, ReplyDestination: b}, true, false},
		{"destination tuple", conntrack.Flow{Source: a, Destination: b, ReplySource: a, ReplyDestination: a}, false, true},
		{"no reply tuple", conntrack.Flow{Status: 8, Source: a, Destination: b}, false, false},
	} {
		if s, d := c.flow.SNAT(), c.flow.DNAT(); s != c.snat || d != c.dnat {
			t.Errorf("%s: snat %v, dnat %v; want %v, %v", c.name, s, d, c.snat, c.dnat)
		}
	}
}

func TestNothingIsSentWithoutConntrack(t *testing.T) {
	k := &conntracktest.Kernel{}
	s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: t.TempDir()})
	_, err := s.Scan(context.Background(), v4, &flows{})
	if !errors.Is(err, fs.ErrNotExist) ||
		!strings.Contains(err.Error(), "no connection tracking in this kernel or namespace") {
		t.Errorf("error %v", err)
	}
	if n := len(k.Requests()); n != 0 {
		t.Errorf("%d requests were sent, which can load the module", n)
	}
}

// Counted but without buckets is another answer than not counted.
func TestTableOfUnknownSize(t *testing.T) {
	proc := procfs(t, 5, 64)
	if err := os.Remove(filepath.Join(proc, "sys/net/netfilter/nf_conntrack_buckets")); err != nil {
		t.Fatal(err)
	}
	k := &conntracktest.Kernel{}
	if _, err := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: proc}).
		Scan(context.Background(), v4, &flows{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v", err)
	}
}

// An empty table is not walked, since its buckets may hold all the entries of other namespaces; but who may not look is
// told so.
func TestEmptyTableIsNotWalked(t *testing.T) {
	k := &conntracktest.Kernel{}
	s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 0, 1<<20)})
	var v flows
	if _, err := s.Scan(context.Background(), v4, &v); err != nil || v.begun != 1 {
		t.Errorf("begun %d times, error %v", v.begun, err)
	}
	for _, r := range k.Requests() {
		if r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			t.Errorf("dump of an empty table: %+v", r)
		}
	}
	k.Reply = func(r conntracktest.Request) [][]byte { return [][]byte{conntracktest.Refusal(r, unix.EPERM)} }
	if _, err := s.Scan(context.Background(), v4, &v); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want a refusal", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		errno unix.Errno
		is    error
		text  string
	}{
		{unix.EPERM, fs.ErrPermission, "needs CAP_NET_ADMIN"},
		{unix.EINVAL, errors.ErrUnsupported, "nf_conntrack_netlink"},
		{unix.ENOMEM, unix.ENOMEM, "dump"},
		{unix.ENOBUFS, unix.ENOBUFS, "attempts in vain"},
	} {
		k := &conntracktest.Kernel{Reply: func(r conntracktest.Request) [][]byte {
			return [][]byte{conntracktest.Refusal(r, c.errno)}
		}}
		s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 5, 64)})
		_, err := s.Scan(context.Background(), v4, &flows{})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: error %v, want %v and %q", c.errno, err, c.is, c.text)
		}
		if k.Sockets() != 0 {
			t.Errorf("%v: %d sockets left open", c.errno, k.Sockets())
		}
	}
}

func TestRefusedFilterIsNotAskedForAgain(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EOPNOTSUPP} {
		k := &conntracktest.Kernel{Flows: mixed()}
		k.Reply = func(r conntracktest.Request) [][]byte {
			if r.UDP {
				return [][]byte{conntracktest.Refusal(r, errno)}
			}
			return nil
		}
		s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 131, 1024), Strategy: conntrack.Filter})
		for range 2 {
			var v flows
			stats, err := s.Scan(context.Background(), v4, &v)
			if err != nil || stats.Strategy != conntrack.Full || len(v.all) != 40 {
				t.Errorf("%v: %d flows by %s, error %v", errno, len(v.all), stats.Strategy, err)
			}
		}
		filtered := 0
		for _, r := range k.Requests() {
			if r.UDP {
				filtered++
			}
		}
		if filtered != 1 {
			t.Errorf("%v: the filter was asked for %d times", errno, filtered)
		}
	}
}

// A full scan makes the first attempt, and one that is spoiled is made again from nothing.
func TestSpoiledAttemptsAreMadeAgain(t *testing.T) {
	proc := procfs(t, 131, 1024)
	spoilers := map[string]func(r conntracktest.Request, k *conntracktest.Kernel) [][]byte{
		"interrupted": func(r conntracktest.Request, k *conntracktest.Kernel) [][]byte {
			d := k.Answer(r)
			d[1][6] |= unix.NLM_F_DUMP_INTR
			return d
		},
		"cut off": func(r conntracktest.Request, k *conntracktest.Kernel) [][]byte {
			d := k.Answer(r)
			d[1] = append(d[1], make([]byte, 8192)...)
			return d
		},
		"resized": func(r conntracktest.Request, k *conntracktest.Kernel) [][]byte {
			setSysctl(t, proc, "nf_conntrack_buckets", 2048)
			return k.Answer(r)
		},
		"no buffers": func(r conntracktest.Request, _ *conntracktest.Kernel) [][]byte {
			return [][]byte{conntracktest.Refusal(r, unix.ENOBUFS)}
		},
	}
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			setSysctl(t, proc, "nf_conntrack_buckets", 1024)
			k := &conntracktest.Kernel{Flows: mixed()}
			asked := 0
			k.Reply = func(r conntracktest.Request) [][]byte {
				if asked++; asked == 1 {
					return spoil(r, k)
				}
				return nil
			}
			var v flows
			s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: proc})
			stats, err := s.Scan(context.Background(), v4v6, &v)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.counts(v4v6); got != "[[40 4 2] [5 0 0]]" || v.begun != 2 || stats.Attempts != 2 {
				t.Errorf("counts %s after %d attempts (begun %d times)", got, stats.Attempts, v.begun)
			}
			if k.Sockets() != 1 {
				t.Errorf("%d sockets open, want the one of the last attempt", k.Sockets())
			}
		})
	}
}

// A scan of a large table that is not known yet goes over to a filter as soon as that is known to be better.
func TestFirstScanOfALargeTable(t *testing.T) {
	k := &conntracktest.Kernel{}
	for i := range 30_000 {
		k.Flows = append(k.Flows, conntracktest.TCP(i), conntracktest.UDP(i))
	}
	k.Flows = append(k.Flows, mixed()...)
	s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, uint64(len(k.Flows)), 1024)})
	for _, attempts := range []int{2, 1} {
		var v flows
		stats, err := s.Scan(context.Background(), v4, &v)
		if err != nil || stats.Strategy != conntrack.Filter || stats.Attempts != attempts || len(v.all) != 40 {
			t.Errorf("%d flows, %+v, error %v; want %d attempts", len(v.all), stats, err, attempts)
		}
	}
	if d := k.Requests(); len(d) != 3 || d[0].UDP || !d[1].UDP || !d[2].UDP {
		t.Errorf("asked for %+v", d)
	}
}

func TestResizingWithoutEndIsAFailure(t *testing.T) {
	proc := procfs(t, 131, 1024)
	k := &conntracktest.Kernel{Flows: mixed()}
	n := uint64(1024)
	k.OnReceive = func(int) error { n++; setSysctl(t, proc, "nf_conntrack_buckets", n); return nil }
	stats, err := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: proc}).Scan(context.Background(), v4, &flows{})
	if err == nil || !strings.Contains(err.Error(), "resized") || stats.Attempts != conntrack.MaxAttempts {
		t.Errorf("%d attempts, error %v", stats.Attempts, err)
	}
}

// A full reply is continued at the entry that did not fit; when that has died the kernel sends the whole bucket again.
func TestBucketSentTwiceIsCountedOnce(t *testing.T) {
	k := &conntracktest.Kernel{}
	for i := range 60 {
		k.Flows = append(k.Flows, conntracktest.VXLAN(i, port))
	}
	k.Flows = append(k.Flows[:30:30], append(append([]conntracktest.Flow(nil), k.Flows[27:30]...), k.Flows[30:]...)...)
	k.IDs = func(i int) uint32 {
		if i >= 30 {
			i -= 3
		}
		return uint32(1000 + i)
	}
	var v flows
	if _, err := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 60, 64)}).
		Scan(context.Background(), v4, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.all) != 60 {
		t.Errorf("%d flows, want 60", len(v.all))
	}
}

func TestDeadlineEndsWhatTheKernelDoesNot(t *testing.T) {
	endless := func(k *conntracktest.Kernel) {
		k.Reply = func(r conntracktest.Request) [][]byte {
			d := k.Answer(conntracktest.Request{Type: r.Type, Flags: r.Flags, Seq: r.Seq, PortID: r.PortID})
			d = d[:len(d)-1]
			long := make([][]byte, 0, 1<<20)
			for len(long) < cap(long)-len(d) {
				long = append(long, d...)
			}
			return long
		}
		k.Pause = func(int) { time.Sleep(10 * time.Microsecond) }
	}
	silent := func(k *conntracktest.Kernel) {
		k.Reply = func(conntracktest.Request) [][]byte { return [][]byte{} }
	}
	for name, make := range map[string]func(*conntracktest.Kernel){"endless": endless, "silent": silent} {
		for _, how := range []string{"deadline", "cancel"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := &conntracktest.Kernel{Flows: mixed()}
					make(k)
					ctx, cancel := context.WithCancel(context.Background())
					want := context.Canceled
					if how == "deadline" {
						ctx, cancel = context.WithTimeout(context.Background(), 30*time.Millisecond)
						want = context.DeadlineExceeded
					} else {
						time.AfterFunc(30*time.Millisecond, cancel)
					}
					defer cancel()
					begin := time.Now()
					_, err := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 131, 1024)}).Scan(ctx, v4, &flows{})
					if !errors.Is(err, want) {
						t.Errorf("error %v, want %v", err, want)
					}
					if d := time.Since(begin); d > 40*time.Millisecond {
						t.Errorf("took %v", d)
					}
					if k.Sockets() != 0 {
						t.Errorf("%d sockets left open", k.Sockets())
					}
				})
			})
		}
	}
}
