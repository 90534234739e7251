package collectors

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
)

// observed is a collector together with what it found, so that its exposition can be tested.
type observed struct {
	Collector
	n *node.Node
}

func (o observed) Collect(ch chan<- prometheus.Metric) { o.Publish(o.n, ch) }

// expose observes with c and compares the exposition with want, the series only, in the order of the text format.
func expose(t *testing.T, c Collector, known node.Node, want string) error {
	t.Helper()
	fill, err := c.Observe(t.Context(), &known)
	if fill == nil {
		t.Fatalf("nothing was filled: %v", err)
	}
	fill(&known)
	o := observed{c, &known}
	if problems, lintErr := testutil.CollectAndLint(o); lintErr != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, lintErr)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(o)
	text, gatherErr := exposition(registry)
	if gatherErr != nil {
		t.Fatal(gatherErr)
	}
	if got, want := series(text), strings.TrimSpace(want); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	return err
}

func TestHost(t *testing.T) {
	tests := []struct{ proc, want, err string }{
		{"testdata/proc-6.18", `
vxlan_host_conntrack_invalid_total 45
vxlan_host_tcp_in_csum_errors_total 3
vxlan_host_tcp_syn_retransmits_total 17
vxlan_host_tcp_timeout_rehash_total 19
vxlan_host_udp_in_csum_errors_total{family="ipv4"} 42
vxlan_host_udp_in_csum_errors_total{family="ipv6"} 5
vxlan_host_udp_in_errors_total{family="ipv4"} 49
vxlan_host_udp_in_errors_total{family="ipv6"} 6`, ""},
		// 3.10 has no TCPSynRetrans and no TcpTimeoutRehash: no series, not a 0.
		{"testdata/proc-3.10", `
vxlan_host_conntrack_invalid_total 1313
vxlan_host_tcp_in_csum_errors_total 0
vxlan_host_udp_in_csum_errors_total{family="ipv4"} 1312
vxlan_host_udp_in_csum_errors_total{family="ipv6"} 0
vxlan_host_udp_in_errors_total{family="ipv4"} 1312
vxlan_host_udp_in_errors_total{family="ipv6"} 0`, ""},
		// A bad line costs what is behind it in its file, and makes the collector fail.
		{"testdata/proc-broken", `
vxlan_host_tcp_timeout_rehash_total 4
vxlan_host_udp_in_csum_errors_total{family="ipv6"} 9`, "proc-broken/net/snmp"},
		{"testdata/none", ``, "--path.procfs"},
	}
	for _, tt := range tests {
		t.Run(tt.proc, func(t *testing.T) {
			err := expose(t, NewHost(tt.proc, nil), node.Node{}, tt.want)
			wantErr(t, err, tt.err)
			if want := map[bool]node.Status{true: node.OK, false: node.Failed}[tt.err == ""]; node.Classify(err) != want {
				t.Errorf("classified %s, want %s: a missing file is a failure here", node.Classify(err), want)
			}
		})
	}
}

func TestSocket(t *testing.T) {
	ports := node.Node{Ports: []node.Port{{Port: 4789, IPv4: true}, {Port: 8472, IPv4: true}}}
	tests := []struct{ proc, want, err string }{
		{"testdata/proc-6.18", `
vxlan_socket_drops_total{family="ipv4",port="4789"} 0
vxlan_socket_drops_total{family="ipv4",port="8472"} 4
vxlan_socket_drops_total{family="ipv6",port="8472"} 1`, ""},
		{"testdata/proc-3.10", `vxlan_socket_drops_total{family="ipv4",port="8472"} 0`, ""},
		{"testdata/proc-broken", `vxlan_socket_drops_total{family="ipv4",port="8472"} 6`, "instead of 13"},
		{"testdata/none", ``, "--path.procfs"},
	}
	for _, tt := range tests {
		t.Run(tt.proc, func(t *testing.T) {
			wantErr(t, expose(t, NewSocket(tt.proc), ports, tt.want), tt.err)
		})
	}
}

func wantErr(t *testing.T, err error, want string) {
	t.Helper()
	if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// A kernel that is built without /proc/net/stat/nf_conntrack, as Ubuntu's were from 18.04 to 22.04, tells the same over
// ctnetlink, to those that may ask. What may not be asked is not there, and not 0; where nothing tracks connections
// nothing is asked.
func TestHostWithoutConntrackStatistics(t *testing.T) {
	invalid := func(err error) func() (nl.Socket, error) {
		k := kerneltest.New()
		if err != nil {
			k.Break(kerneltest.Counters, kerneltest.Fault{Refuse: err})
		}
		return k.OpenCounters
	}
	for _, tt := range []struct {
		name      string
		open      nl.Opener
		tracks    bool
		want, err string
	}{
		{"told over ctnetlink", invalid(nil), true, "45", ""},
		{"no capability", invalid(unix.EPERM), true, "", ""},
		{"no ctnetlink", invalid(unix.EINVAL), true, "", ""},
		{"failed", invalid(unix.ENOBUFS), true, "", "no buffer space"},
		{"no connection tracking", func() (nl.Socket, error) { return nil, errors.New("asked") }, false, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc := kerneltest.NewProc(t, "testdata/proc-6.18")
			proc.Missing("net/stat/nf_conntrack")
			if !tt.tracks {
				proc.Missing("sys/net/netfilter")
			}
			fill, err := NewHost(proc.Root, tt.open).Observe(t.Context(), &node.Node{})
			wantErr(t, err, tt.err)
			var n node.Node
			fill(&n)
			if got := n.Host.ConntrackInvalid; (got == nil) != (tt.want == "") || got != nil &&
				strconv.FormatUint(*got, 10) != tt.want {
				t.Errorf("%v, want %q", got, tt.want)
			}
			if n.Host.UDP4.InCsumErrors == nil {
				t.Error("the other counters are gone")
			}
		})
	}
}

// What is usual begins with the mean since boot, is forgotten as it is contradicted, and does not follow a failure of
// minutes.
func TestUsualRate(t *testing.T) {
	t.Parallel()
	const scrape = 15 * time.Second
	booted := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	for name, c := range map[string]struct {
		uptime    time.Duration
		since     uint64   // boot
		rates     []uint64 // in a scrape interval, each for an hour
		low, high float64  // in two minutes, in the end
	}{
		"the mean since boot":  {uptime: 10 * time.Hour, since: 600, low: 1.99, high: 2.01},
		"not known":            {since: 600},
		"a burst at boot":      {uptime: time.Minute, since: 1000, rates: []uint64{0}, low: 1, high: 35},
		"a burst of yesterday": {uptime: 24 * time.Hour, since: 100000, rates: []uint64{0, 0, 0}, low: 30, high: 36},
		"as before":            {uptime: time.Hour, since: 240, rates: []uint64{1, 1}, low: 7.9, high: 8.1},
		"an hour of something else": {
			uptime: 24 * time.Hour, since: 0, rates: []uint64{0, 0, 0, 0, 0, 0, 1}, low: 1,
			high: 1.5,
		},
		"a day of it": {
			uptime: 24 * time.Hour, since: 0, rates: slices.Repeat([]uint64{1}, 24),
			low: 7.5, high: 8,
		},
	} {
		var u usualRate
		now, v := time.Unix(1e9, 0), c.since
		rate := u.add(v, now, booted(c.uptime))
		for _, r := range c.rates {
			for range time.Hour / scrape {
				now, v = now.Add(scrape), v+r
				rate = u.add(v, now, nil)
			}
		}
		if got := rate * 120; got < c.low || got > c.high {
			t.Errorf("%s: %.2f in two minutes; want %g to %g", name, got, c.low, c.high)
		}
		if again := u.add(0, now.Add(scrape), nil); again != rate {
			t.Errorf("%s: %g after the counter began anew; want %g", name, again, rate)
		}
	}
}
