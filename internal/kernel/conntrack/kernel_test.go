package conntrack_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab/labtest"

	"golang.org/x/sys/unix"
)

var strategies = []conntrack.Strategy{conntrack.Auto, conntrack.Full, conntrack.Filter}

// inNamespace runs f on a thread in a new namespace with the flows in its table.
func inNamespace(t *testing.T, flows []conntracktest.Flow, f func(ns *labtest.NS, tab *conntracktest.Table) error) {
	t.Helper()
	ns := labtest.New(t, "ct")
	ns.Do(func() error {
		tab, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer tab.Close()
		if err := tab.Add(flows...); err != nil {
			return err
		}
		return f(ns, tab)
	})
}

// table is what the kernel tests fill: every decoy among flows to be counted.
func table() []conntracktest.Flow {
	var all []conntracktest.Flow
	for i := range 3000 {
		all = append(all, conntracktest.TCP(i), conntracktest.UDP(i))
	}
	for i := range 50 {
		all = append(all, conntracktest.VXLAN(i, port))
	}
	for i := range 5 {
		all = append(all, conntracktest.VXLAN(100+i, port).WithSNAT(), conntracktest.VXLAN6(i, port))
	}
	all = append(all, conntracktest.VXLAN6(9, port).WithSNAT())
	zoned := conntracktest.VXLAN(3, port) // the same tuple as one of the others
	zoned.Zone = 7
	ipvs := conntracktest.VXLAN(200, port)
	ipvs.ReplySource = netip.MustParseAddrPort("10.9.9.9:4789")
	return append(append(all, zoned, ipvs), conntracktest.Decoys(port)...)
}

// line of conntrack -L -o id,extended: both tuples and the id, nothing of which the parser under test has touched.
var line = regexp.MustCompile(
	`src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) .*id=(\d+)`)

// listed asks conntrack(8) for the flows to the VXLAN port, as lines in the form of asLine.
func listed(t *testing.T, ns *labtest.NS, family string) []string {
	t.Helper()
	out := ns.Run("conntrack", "-L", "-f", family, "-p", "udp", "--orig-port-dst", fmt.Sprint(port), "-o", "id,extended")
	var all []string
	for l := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("conntrack -L printed %q", l)
		}
		all = append(all, strings.Join(m[1:], " "))
	}
	slices.Sort(all)
	return all
}

func asLine(f *conntrack.Flow) string {
	return fmt.Sprintf("%s %s %d %d %s %s %d %d %d", f.Source.Addr(), f.Destination.Addr(), f.Source.Port(),
		f.Destination.Port(),
		f.ReplySource.Addr(), f.ReplyDestination.Addr(), f.ReplySource.Port(), f.ReplyDestination.Port(), f.ID)
}

func TestSameAsConntrackTool(t *testing.T) {
	inNamespace(t, table(), func(ns *labtest.NS, _ *conntracktest.Table) error {
		// One that the tool itself made, NATed by the kernel.
		ns.Run("conntrack", "-I", "-p", "udp", "-s", "172.16.0.1", "-d", "172.16.0.2", "--sport", "33333", "--dport",
			fmt.Sprint(port),
			"-t", "600", "--src-nat", "172.16.0.9:44444", "-u", "SEEN_REPLY")
		want := [][]string{listed(t, ns, "ipv4"), listed(t, ns, "ipv6")}
		for _, strategy := range strategies {
			s := conntrack.NewScanner(conntrack.Config{Strategy: strategy})
			for scan := range 3 {
				var v flows
				stats, err := s.Scan(context.Background(), v4v6, &v)
				if err != nil {
					return err
				}
				got := make([][]string, 2)
				for i := range v.all {
					got[v.all[i].Target] = append(got[v.all[i].Target], asLine(&v.all[i]))
				}
				for i := range got {
					slices.Sort(got[i])
					if !slices.Equal(got[i], want[i]) {
						t.Errorf("%s, scan %d (%s), %s: %d flows, conntrack -L has %d\n%v\n%v", strategy, scan, stats.Strategy,
							[]string{"ipv4", "ipv6"}[i], len(got[i]), len(want[i]), got[i], want[i])
					}
				}
				if c := v.counts(v4v6); c != "[[58 6 1] [6 1 0]]" {
					t.Errorf("%s, scan %d: counts %s", strategy, scan, c)
				}
				if stats.Filtered != (stats.Strategy != conntrack.Full) {
					t.Errorf("%s, scan %d: strategy %s, filtered %v", strategy, scan, stats.Strategy, stats.Filtered)
				}
			}
			if err := s.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// tally counts without keeping anything.
type tally struct{ flows, snat int }

func (v *tally) Begin() { *v = tally{} }
func (v *tally) Visit(f *conntrack.Flow) {
	v.flows++
	if f.SNAT() {
		v.snat++
	}
}

// The same few allocations whatever the size of the table: two contexts, the file names of three sysctls, the request.
func TestFewAllocations(t *testing.T) {
	allocations := map[conntrack.Strategy][]float64{}
	for _, more := range []int{0, 20000} {
		all := table()
		for i := range more {
			all = append(all, conntracktest.TCP(5000+i), conntracktest.VXLAN(5000+i, port))
		}
		inNamespace(t, all, func(*labtest.NS, *conntracktest.Table) error {
			for _, strategy := range strategies {
				s := conntrack.NewScanner(conntrack.Config{Strategy: strategy})
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				var v tally
				n := testing.AllocsPerRun(3, func() {
					if _, err := s.Scan(ctx, v4v6, &v); err != nil {
						t.Error(err)
					}
				})
				cancel()
				if n > 20 {
					t.Errorf("%s: %v allocations a scan with %d flows", strategy, n, v.flows)
				}
				allocations[strategy] = append(allocations[strategy], n)
				if err := s.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	t.Log("allocations a scan:", allocations)
	for strategy, n := range allocations {
		// The choice of auto, and with it the number of dumps, may differ.
		if strategy != conntrack.Auto && n[1] > n[0]+1 {
			t.Errorf("%s: %v allocations in a small table, %v in a large one", strategy, n[0], n[1])
		}
	}
}

// The counts stay exact while other flows come and go as fast as one CPU can make them.
func TestExactUnderChurn(t *testing.T) {
	inNamespace(t, table(), func(ns *labtest.NS, _ *conntracktest.Table) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		churned := make(chan error, 1)
		go func() { churned <- ns.NS.Do(func() error { return churn(ctx) }) }()
		scans := map[conntrack.Strategy]int{}
		for ctx.Err() == nil {
			for _, strategy := range strategies {
				s := conntrack.NewScanner(conntrack.Config{Strategy: strategy})
				for range 4 {
					var v flows
					stats, err := s.Scan(context.Background(), v4v6, &v)
					if err != nil {
						return err
					}
					if c := v.counts(v4v6); c != "[[57 5 1] [6 1 0]]" {
						t.Errorf("%s: counts %s", stats.Strategy, c)
					}
					scans[stats.Strategy]++
				}
				if err := s.Close(); err != nil {
					return err
				}
			}
		}
		t.Log("scans:", scans)
		return <-churned
	})
}

// churn creates and deletes flows, a tenth of them to the neighboring ports, until ctx ends.
func churn(ctx context.Context) error {
	tab, err := conntracktest.Open()
	if err != nil {
		return err
	}
	defer tab.Close()
	var batch []conntracktest.Flow
	for i := range 1000 {
		batch = append(batch, conntracktest.UDP(100000+i), conntracktest.TCP(100000+i))
		if i%10 == 0 {
			batch = append(batch, conntracktest.VXLAN(100000+i, port+1))
		}
	}
	for ctx.Err() == nil {
		if err := tab.Add(batch...); err != nil {
			return err
		}
		if err := tab.Delete(batch...); err != nil {
			return err
		}
	}
	return nil
}

// Without CAP_NET_ADMIN the kernel itself refuses, with an empty table and with a full one.
func TestNotPermitted(t *testing.T) {
	for _, fill := range [][]conntracktest.Flow{nil, {conntracktest.VXLAN(1, port)}} {
		inNamespace(t, fill, func(*labtest.NS, *conntracktest.Table) error {
			// The thread ends with this function: what it drops stays dropped. netlink asks for the sender's effective set.
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			if err := unix.Capset(&hdr, &none[0]); err != nil {
				return fmt.Errorf("capset: %w", err)
			}
			s := conntrack.NewScanner(conntrack.Config{})
			_, err := s.Scan(context.Background(), v4, &flows{})
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "needs CAP_NET_ADMIN") {
				t.Errorf("%d flows: error %v", len(fill), err)
			}
			if n, err := conntrack.NewSysctls("/proc").Count(); err != nil || n != uint64(len(fill)) {
				t.Errorf("nf_conntrack_count, which anybody may read: %d, %v", n, err)
			}
			return nil
		})
	}
}

func TestSysctls(t *testing.T) {
	inNamespace(t, table(), func(ns *labtest.NS, _ *conntracktest.Table) error {
		s := conntrack.NewSysctls("/proc")
		for name, read := range map[string]func() (uint64, error){
			"nf_conntrack_count":   s.Count,
			"nf_conntrack_max":     s.Limit,
			"nf_conntrack_buckets": s.Buckets,
			"nf_conntrack_udp_timeout": func() (uint64, error) {
				d, err := s.UDPTimeout()
				return uint64(d / time.Second), err
			},
		} {
			want := strings.TrimSpace(ns.Run("sysctl", "-n", "net.netfilter."+name))
			if got, err := read(); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s: %d, %v; sysctl says %s", name, got, err, want)
			}
		}
		return nil
	})
}
