package collectors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

var flannelPort = &node.Node{Ports: []node.Port{{Port: 8472, IPv4: true}}}

// conntrackProc is a procfs with the sysctls of a table.
func conntrackProc(t *testing.T, count uint64, udpTimeout int) string {
	t.Helper()
	proc := t.TempDir()
	dir := filepath.Join(proc, "sys/net/netfilter")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]uint64{
		"nf_conntrack_count": count, "nf_conntrack_max": 262144, "nf_conntrack_buckets": 65536,
		"nf_conntrack_udp_timeout": uint64(udpTimeout),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendln(nil, v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

// looked is one look by c alone.
func looked(c *Conntrack, known *node.Node) (*node.Node, error) {
	n := *known
	n.Time = time.Now()
	fill, err := c.Observe(context.Background(), known)
	if fill != nil {
		fill(&n)
	}
	return &n, err
}

// published is one observation, as a registry sees it.
type published struct {
	Collector
	n *node.Node
}

func (p published) Collect(ch chan<- prometheus.Metric) { p.Publish(p.n, ch) }

func conntrackSeries(t *testing.T, c *Conntrack, n *node.Node) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(published{c, n})
	text, err := exposition(r)
	if err != nil {
		t.Fatal(err)
	}
	return series(text)
}

// natted is the i-th SNATed VXLAN flow.
func natted(i int) conntracktest.Flow {
	f := conntracktest.VXLAN(i, 8472)
	f.ReplyDestination = netip.AddrPortFrom(f.Source.Addr(), f.Source.Port()^0x4000)
	return f
}

func dumps(k *conntracktest.Kernel) int {
	n := 0
	for _, r := range k.Requests() {
		if r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			n++
		}
	}
	return n
}

func TestConntrackMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &conntracktest.Kernel{Flows: append(conntracktest.Decoys(8472), natted(1), conntracktest.VXLAN(2, 8472),
			conntracktest.VXLAN6(3, 4789))}
		c := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 9, 30),
			Open: k.Open,
		})
		known := &node.Node{Ports: []node.Port{{Port: 8472, IPv4: true, IPv6: true}, {Port: 4789, IPv6: true}}}
		if _, err := looked(c, known); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		n, err := looked(c, known)
		if err != nil {
			t.Fatal(err)
		}
		n.Conntrack.Scan.LongestReceive = 0 // CPU time, the only thing here that is not the same every time
		want := `vxlan_conntrack_buckets 65536
vxlan_conntrack_entries 9
vxlan_conntrack_entries_limit 262144
vxlan_conntrack_flows{family="ipv4",port="8472"} 2
vxlan_conntrack_flows{family="ipv6",port="4789"} 1
vxlan_conntrack_flows{family="ipv6",port="8472"} 0
vxlan_conntrack_last_snat_timestamp_seconds{family="ipv4",port="8472"} 9.466848e+08
vxlan_conntrack_nat_flows{family="ipv4",nat="dnat",port="8472"} 0
vxlan_conntrack_nat_flows{family="ipv4",nat="snat",port="8472"} 1
vxlan_conntrack_nat_flows{family="ipv6",nat="dnat",port="4789"} 0
vxlan_conntrack_nat_flows{family="ipv6",nat="dnat",port="8472"} 0
vxlan_conntrack_nat_flows{family="ipv6",nat="snat",port="4789"} 0
vxlan_conntrack_nat_flows{family="ipv6",nat="snat",port="8472"} 0
vxlan_conntrack_nat_flows_seen_overflow_total 0
vxlan_conntrack_nat_flows_seen_total{family="ipv4",nat="dnat",port="8472"} 0
vxlan_conntrack_nat_flows_seen_total{family="ipv4",nat="snat",port="8472"} 1
vxlan_conntrack_nat_flows_seen_total{family="ipv6",nat="dnat",port="4789"} 0
vxlan_conntrack_nat_flows_seen_total{family="ipv6",nat="dnat",port="8472"} 0
vxlan_conntrack_nat_flows_seen_total{family="ipv6",nat="snat",port="4789"} 0
vxlan_conntrack_nat_flows_seen_total{family="ipv6",nat="snat",port="8472"} 0
vxlan_conntrack_scan_age_seconds 4
vxlan_conntrack_scan_duration_seconds 0
vxlan_conntrack_scan_entries 9
vxlan_conntrack_scan_filtered 0
vxlan_conntrack_scan_interval_seconds 15
vxlan_conntrack_scan_longest_receive_seconds 0
vxlan_conntrack_scan_stale 0
vxlan_conntrack_scan_timestamp_seconds 9.466848e+08`
		if got := conntrackSeries(t, c, n); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// What could not be looked at has no series; what was looked at and is not there is 0.
func TestConntrackAnswersAreToldApart(t *testing.T) {
	refuse := func(errno unix.Errno) *conntracktest.Kernel {
		return &conntracktest.Kernel{Reply: func(r conntracktest.Request) [][]byte {
			return [][]byte{conntracktest.Refusal(r, errno)}
		}}
	}
	const sizes = "vxlan_conntrack_buckets 65536\nvxlan_conntrack_entries 5\nvxlan_conntrack_entries_limit 262144"
	for name, c := range map[string]struct {
		kernel *conntracktest.Kernel
		proc   string
		want   node.Status
		series string
	}{
		"none":          {&conntracktest.Kernel{}, t.TempDir(), node.None, ""},
		"not permitted": {refuse(unix.EPERM), conntrackProc(t, 5, 30), node.NotPermitted, sizes},
		"unsupported":   {refuse(unix.EINVAL), conntrackProc(t, 5, 30), node.Unsupported, sizes},
		"failed":        {refuse(unix.ENOMEM), conntrackProc(t, 5, 30), node.Failed, sizes},
	} {
		t.Run(name, func(t *testing.T) {
			col := NewConntrack(ConntrackConfig{MinInterval: DefaultConntrackMinInterval, Proc: c.proc, Open: c.kernel.Open})
			n, err := looked(col, flannelPort)
			if got := node.Classify(err); got != c.want {
				t.Errorf("status %s (%v), want %s", got, err, c.want)
			}
			if got := conntrackSeries(t, col, n); got != c.series {
				t.Errorf("series\n%s\nwant\n%s", got, c.series)
			}
		})
	}
	t.Run("zero", func(t *testing.T) {
		col := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 5, 30),
			Open: (&conntracktest.Kernel{}).Open,
		})
		n, err := looked(col, flannelPort)
		if got := conntrackSeries(t, col, n); err != nil ||
			!strings.Contains(got, `vxlan_conntrack_flows{family="ipv4",port="8472"} 0`) {
			t.Errorf("error %v, series\n%s", err, got)
		}
	})
}

func TestConntrackServesTheLastResultWhenAScanFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &conntracktest.Kernel{Flows: []conntracktest.Flow{natted(1), natted(2)}}
		c := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 2, 30),
			Open: k.Open, Timeout: time.Second,
		})
		if n, err := looked(c, flannelPort); err != nil || n.Conntrack.Scan.Stale {
			t.Fatalf("first scan: %v, %+v", err, n.Conntrack.Scan)
		}
		k.Reply = func(conntracktest.Request) [][]byte { return [][]byte{} } // does not answer any more
		time.Sleep(11 * time.Second)
		for range 2 { // the second is served from the first, error and all
			n, err := looked(c, flannelPort)
			if node.Classify(err) != node.Failed || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if s := n.Conntrack.Scan; s == nil || !s.Stale || n.Conntrack.Ports[0].Flows != 2 {
				t.Errorf("served %+v, %+v", s, n.Conntrack.Ports)
			}
		}
		if d := dumps(k); d != 2 {
			t.Errorf("%d dumps, want the good one and the bad one", d)
		}
		k.Reply = nil
		time.Sleep(11 * time.Second)
		if n, err := looked(c, flannelPort); err != nil || n.Conntrack.Scan.Stale || n.Conntrack.Ports[0].SeenSNAT != 2 {
			t.Errorf("after recovery: %v, %+v", err, n.Conntrack)
		}
	})
}

// However many scrape, a minute costs the scans of one.
func TestConntrackScrapersShareScans(t *testing.T) {
	scans := func(t *testing.T, scrapers int) (n int) {
		synctest.Test(t, func(t *testing.T) {
			k := &conntracktest.Kernel{Flows: []conntracktest.Flow{natted(1)}}
			c := NewConntrack(ConntrackConfig{
				MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 1, 30),
				Open: k.Open,
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute-time.Millisecond)
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() { c.Run(ctx) })
			for range scrapers {
				wg.Go(func() {
					for ; ctx.Err() == nil; time.Sleep(5 * time.Second) {
						if _, err := looked(c, flannelPort); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			n = dumps(k)
		})
		return n
	}
	one, twenty := scans(t, 1), scans(t, 20)
	if one != 6 || twenty != one {
		t.Errorf("%d scans a minute for one scraper and %d for twenty, want 6 for both", one, twenty)
	}
}

// A flow of a single packet lives nf_conntrack_udp_timeout. Born at any moment, it is seen, though nobody scrapes while
// it lives. One that lives 6 s, where scans without a scrape are 15 s apart, is seen with a probability of 0.4.
func TestConntrackSeesShortFlowsBetweenScrapes(t *testing.T) {
	for life, want := range map[int]float64{6: 0.4, 10: 1, 30: 1, 120: 1} {
		synctest.Test(t, func(t *testing.T) {
			born := map[int]time.Time{}
			k := &conntracktest.Kernel{}
			k.Reply = func(r conntracktest.Request) [][]byte {
				alive := conntracktest.Kernel{}
				var ids []uint32
				for i, at := range born {
					if !time.Now().Before(at) && time.Since(at) < time.Duration(life)*time.Second {
						alive.Flows, ids = append(alive.Flows, natted(i)), append(ids, uint32(i+1))
					}
				}
				alive.IDs = func(i int) uint32 { return ids[i] }
				return alive.Answer(r)
			}
			start := time.Now()
			const flows = 500
			for i := range flows {
				born[i] = start.Add(time.Duration(i) * 1237 * time.Millisecond) // ten minutes of them
			}
			c := NewConntrack(ConntrackConfig{
				MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 1, life),
				Open: k.Open,
			})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { c.Run(ctx); close(done) }()
			var seen uint64
			for range 15 {
				n, err := looked(c, flannelPort)
				if err != nil {
					t.Fatal(err)
				}
				seen = n.Conntrack.Ports[0].SeenSNAT
				time.Sleep(time.Minute)
			}
			cancel()
			<-done
			if got := float64(seen) / flows; math.Abs(got-want) > 0.01 {
				t.Errorf("life %d s: %.3f of the flows seen, want %.2f", life, got, want)
			}
		})
	}
}

func TestConntrackRestsWhenNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &conntracktest.Kernel{Flows: []conntracktest.Flow{natted(1)}}
		c := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 1, 30),
			Open: k.Open,
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		time.Sleep(time.Hour)
		if d := dumps(k); d != 0 {
			t.Errorf("%d scans though nobody has looked yet", d)
		}
		observe := func() {
			if _, err := looked(c, flannelPort); err != nil {
				t.Error(err)
			}
		}
		observe()
		time.Sleep(time.Hour)
		after := dumps(k)
		if after < 40 || after > 41 { // four a minute for ten minutes: there are NATed flows
			t.Errorf("%d scans after one look", after)
		}
		time.Sleep(time.Hour)
		if d := dumps(k); d != after {
			t.Errorf("%d scans while nobody looks", d-after)
		}
		observe()
		time.Sleep(time.Minute)
		if d := dumps(k) - after; d < 4 || d > 5 {
			t.Errorf("%d scans in the minute after somebody looks again", d)
		}
		cancel()
		<-done
	})
}

// Run tells of a change of state once, and not of one that an Observe has returned.
func TestConntrackLogsChangesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := &conntracktest.Kernel{Flows: []conntracktest.Flow{natted(1)}}
		c := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 1, 30),
			Open: k.Open, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		lines := func() int { synctest.Wait(); return strings.Count(log.String(), "\n") }
		if _, err := looked(c, flannelPort); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := lines(); n != 0 {
			t.Errorf("%d lines while all is well:\n%s", n, log.String())
		}
		k.SetReply(func(r conntracktest.Request) [][]byte { return [][]byte{conntracktest.Refusal(r, unix.EPERM)} })
		time.Sleep(2 * time.Minute)
		if n := lines(); n != 1 || !strings.Contains(log.String(), "not_permitted") {
			t.Errorf("%d lines for one change:\n%s", n, log.String())
		}
		k.SetReply(nil)
		time.Sleep(2 * time.Minute)
		if n := lines(); n != 2 {
			t.Errorf("%d lines for two changes:\n%s", n, log.String())
		}
		k.SetReply(func(r conntracktest.Request) [][]byte { return [][]byte{conntracktest.Refusal(r, unix.ENOMEM)} })
		// Other ports are looked at at once, whatever is due.
		if _, err := looked(c, &node.Node{Ports: []node.Port{{Port: 4789, IPv4: true}}}); err == nil {
			t.Error("no error")
		}
		time.Sleep(2 * time.Minute)
		if n := lines(); n != 2 {
			t.Errorf("%d lines: what an Observe returned is logged again:\n%s", n, log.String())
		}
		cancel()
		<-done
	})
}

func TestConntrackEvidenceIsTheSameInAnyOrder(t *testing.T) {
	var flows []conntracktest.Flow
	for i := range 100 {
		flows = append(flows, natted(i))
	}
	evidence := func() []node.NATFlow {
		k := &conntracktest.Kernel{Flows: flows}
		n, err := looked(NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval,
			Proc:        conntrackProc(t, 100, 30), Open: k.Open,
		}), flannelPort)
		if err != nil {
			t.Fatal(err)
		}
		return n.Conntrack.NATFlows
	}
	first := evidence()
	slices.Reverse(flows)
	if second := evidence(); len(first) != 16 || !slices.Equal(first, second) {
		t.Errorf("first\n%v\nreversed\n%v", first, second)
	}
	f := natted(0)
	if want := (node.NATFlow{
		Source: f.Source, Destination: f.Destination, NATSource: f.ReplyDestination,
		NATDestination: f.Destination,
	}); first[0] != want {
		t.Errorf("first flow %+v, want %+v", first[0], want)
	}
}

// On the real kernel, in a namespace of its own.
func TestConntrackOnTheKernel(t *testing.T) {
	ns := labtest.New(t, "ctcol")
	ns.Do(func() error {
		tab, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer tab.Close()
		flows := conntracktest.Decoys(8472)
		for i := range 7 {
			flows = append(flows, conntracktest.VXLAN(i, 8472))
		}
		flows = append(flows, conntracktest.VXLAN(7, 8472).WithSNAT())
		if err := tab.Add(flows...); err != nil {
			return err
		}
		c := NewConntrack(ConntrackConfig{})
		for range 3 {
			n, err := looked(c, flannelPort)
			if err != nil {
				return err
			}
			want := node.ConntrackPort{Family: node.IPv4, Port: 8472, Flows: 8, SNAT: 1, SeenSNAT: 1}
			if got := n.Conntrack.Ports; len(got) != 1 || got[0] != want {
				t.Errorf("ports %+v, want %+v", got, want)
			}
			if e := n.Conntrack.Entries; e == nil || *e != uint64(len(flows)) {
				t.Errorf("entries %v, want %d", e, len(flows))
			}
		}
		return nil
	})
}

// What this kernel or namespace does not show is no failure.
func TestConntrackWithoutLimit(t *testing.T) {
	proc := conntrackProc(t, 5, 30)
	for _, name := range []string{"nf_conntrack_max", "nf_conntrack_udp_timeout"} {
		if err := os.Remove(filepath.Join(proc, "sys/net/netfilter", name)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := looked(NewConntrack(ConntrackConfig{
		MinInterval: DefaultConntrackMinInterval, Proc: proc,
		Open: (&conntracktest.Kernel{}).Open,
	}), flannelPort)
	if err != nil || n.Conntrack.Limit != nil || n.Conntrack.UDPTimeout != nil || n.Conntrack.Scan == nil {
		t.Errorf("error %v, %+v", err, n.Conntrack)
	}
}

func TestConntrackSysctlErrors(t *testing.T) {
	proc := conntrackProc(t, 5, 30)
	if err := os.WriteFile(filepath.Join(proc, "sys/net/netfilter/nf_conntrack_max"), []byte("many\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	c := NewConntrack(ConntrackConfig{
		MinInterval: DefaultConntrackMinInterval, Proc: proc,
		Open: (&conntracktest.Kernel{}).Open,
	})
	n, err := looked(c, flannelPort)
	if node.Classify(err) != node.Failed || n.Conntrack.Limit != nil || n.Conntrack.Scan == nil {
		t.Errorf("error %v, limit %v, scan %v", err, n.Conntrack.Limit, n.Conntrack.Scan)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v reads as if there were no conntrack", err)
	}
}
