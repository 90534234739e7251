package collectors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

func TestScanInterval(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	type need struct {
		cost, udpTimeout        time.Duration
		exposed, alarm, settled bool
	}
	for name, c := range map[string]struct {
		need    need
		fastest time.Duration
		share   float64
		want    time.Duration
	}{
		"exposed":                        {need{13 * ms, 30 * s, true, false, false}, 10 * s, 0.01, 10 * s},
		"NATed flows, and clear":         {need{13 * ms, 30 * s, false, true, true}, 10 * s, 0.01, 10 * s},
		"clear by the rules, or unknown": {need{13 * ms, 30 * s, false, false, false}, 10 * s, 0.01, 20 * s},
		"clear whatever a scan shows":    {need{13 * ms, 30 * s, false, false, true}, 10 * s, 0.01, 55 * s},

		"exposed, a million entries": {need{440 * ms, 30 * s, true, true, false}, 10 * s, 0.01, 44 * s},
		"the same at half the share": {need{440 * ms, 30 * s, true, true, false}, 10 * s, 0.005, 55 * s},
		"the same without a bound":   {need{440 * ms, 30 * s, true, true, false}, 10 * s, 0, 10 * s},
		"ten million entries":        {need{5 * s, 30 * s, true, true, false}, 10 * s, 0.01, 55 * s},

		"flows that live long":         {need{0, 300 * s, false, false, false}, 10 * s, 0.01, 55 * s},
		"flows that live short":        {need{0, 6 * s, false, false, false}, 10 * s, 0.01, 10 * s},
		"rarer than once a minute":     {need{0, 30 * s, true, false, false}, 300 * s, 0.01, 300 * s},
		"more often, where that pays":  {need{13 * ms, 30 * s, true, false, false}, s, 0.01, 1300 * ms},
		"a clock that ran backwards":   {need{-s, 30 * s, true, false, false}, 10 * s, 0.01, 10 * s},
		"a timeout of a broken sysctl": {need{0, 1 << 62, false, false, false}, 10 * s, 0.01, 55 * s},
	} {
		l := scanLessons{exposed: c.need.exposed, settled: c.need.settled}
		now := time.Now()
		if c.need.alarm {
			l.alarmed = now.Add(-time.Second)
		}
		if got := l.interval(now, c.need.udpTimeout, c.need.cost, c.fastest, c.share); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// tunnel is a node with one device, as the observation before has it.
func tunnel(offload bool, change natrules.Change, why natrules.Why) *node.Node {
	on := true
	n := *flannelPort
	n.Devices = []node.Device{{
		Link:     rtnl.Link{Name: "flannel.1", Up: true, Port: 8472, UDPChecksum: &on},
		Features: ethtool.Features{{Name: "tx-checksum-ip-generic", Available: true, Active: offload, Requested: offload}},
	}}
	n.Kernel.Release = "6.1.0"
	n.NATRules.Outer = []natrules.Outer{{Family: node.IPv4, Port: 8472, Change: change, Why: why}}
	n.Results = map[string]node.Result{"device": {Status: node.OK}, "natrules": {Status: node.OK}}
	return &n
}

func TestScanLessons(t *testing.T) {
	for name, c := range map[string]struct {
		before           *node.Node
		exposed, settled bool
	}{
		"offload off":        {tunnel(false, natrules.PortChange, natrules.WhyKept), false, true},
		"the rules keep NAT": {tunnel(true, natrules.NoChange, natrules.WhyCleared), false, false},
		"the rules NAT":      {tunnel(true, natrules.PortChange, natrules.WhyKept), true, false},
		"the first":          {flannelPort, false, false},
		"no device in sight": {&node.Node{
			Ports:   flannelPort.Ports,
			Results: map[string]node.Result{"device": {Status: node.OK}},
		}, false, false},
		"nothing at all, yet": {&node.Node{}, false, false},
	} {
		var l scanLessons
		if l.learn(c.before, time.Now()); l.exposed != c.exposed || l.settled != c.settled {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// Bad checksums count when they rise, not when they are first read, nor when they could not be read.
func TestScanLessonsOfBadChecksums(t *testing.T) {
	start := time.Now()
	count := func(udp4 uint64, wire float64) *node.Node {
		n := *flannelPort
		n.Host.UDP4.InCsumErrors = &udp4
		n.Wire = &node.Wire{Bad: []node.WirePeer{{Packets: wire}}}
		return &n
	}
	var l scanLessons
	for i, step := range []struct {
		n     *node.Node
		alarm bool
	}{
		{flannelPort, false},
		{count(7, 0), false},
		{count(7, 0), false},
		{flannelPort, false},
		{count(8, 0), true},
		{count(8, 0), false},
		{count(8, 3), true},
		{count(0, 0), false}, // the namespace is another
	} {
		now := start.Add(time.Duration(i) * time.Minute)
		if l.learn(step.n, now); l.alarmed.Equal(now) != step.alarm {
			t.Errorf("step %d: alarmed at %v", i, l.alarmed)
		}
	}
}

// pace is how many scans are made in ten minutes in which somebody observes every 15 s, and the interval that is
// published at the end.
func pace(t *testing.T, k *conntracktest.Kernel, before *node.Node) (scans int, last time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewConntrack(ConntrackConfig{
			MinInterval: DefaultConntrackMinInterval, Proc: conntrackProc(t, 9, 30),
			Open: k.Open,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		for end := time.Now().Add(10*time.Minute - time.Millisecond); time.Now().
			Before(end); time.Sleep(min(15*time.Second, time.Until(end))) {
			n, err := looked(c, before)
			if err != nil {
				t.Error(err)
			}
			last = n.Conntrack.ScanInterval
			if age := time.Since(n.Conntrack.Scan.Time); age > last {
				t.Errorf("a scan of %v ago is served, at a pace of %v", age, last)
			}
		}
		scans = dumps(k)
		cancel()
		<-done
	})
	return scans, last
}

func TestConntrackPace(t *testing.T) {
	plain := []conntracktest.Flow{conntracktest.VXLAN(1, 8472)}
	for name, c := range map[string]struct {
		flows  []conntracktest.Flow
		before *node.Node
		scans  int
		last   time.Duration
	}{
		"exposed":            {plain, tunnel(true, natrules.PortChange, natrules.WhyKept), 40, 15 * time.Second},
		"clear by the rules": {plain, tunnel(true, natrules.NoChange, natrules.WhyCleared), 20, 30 * time.Second},
		"clear for good":     {plain, tunnel(false, natrules.PortChange, natrules.WhyKept), 10, time.Minute},
		"clear, and NATed flows": {
			[]conntracktest.Flow{natted(1)},
			tunnel(false, natrules.PortChange, natrules.WhyKept),
			40, 15 * time.Second,
		},
		"nothing known of a device": {plain, flannelPort, 20, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			scans, last := pace(t, &conntracktest.Kernel{Flows: c.flows}, c.before)
			if scans != c.scans || last != c.last {
				t.Errorf("%d scans, at last %v apart; want %d, %v", scans, last, c.scans, c.last)
			}
		})
	}
}

func TestInBackground(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ interval, udpTimeout, want time.Duration }{
		{10 * s, 30 * s, 15 * s},
		{20 * s, 30 * s, 30 * s},
		{25 * s, 30 * s, 30 * s}, // no flow is missed
		{10 * s, 10 * s, 10 * s},
		{44 * s, 30 * s, 60 * s},
		{55 * s, 30 * s, 60 * s},
		{300 * s, 30 * s, 300 * s},
	} {
		if got := inBackground(c.interval, c.udpTimeout); got != c.want {
			t.Errorf("%v, flows that live %v: %v, want %v", c.interval, c.udpTimeout, got, c.want)
		}
	}
}

// What the process spends is earned back by waiting: 0.3 s a scan and 0.1 % of a CPU otherwise make 0.3 s / 0.9 % = 33
// s, and half as much more without scrapes.
func TestConntrackPaysForScans(t *testing.T) {
	for name, reply := range map[string]func(conntracktest.Request) [][]byte{
		"that succeed": nil,
		"that fail":    func(r conntracktest.Request) [][]byte { return [][]byte{conntracktest.Refusal(r, unix.ENOMEM)} },
	} {
		t.Run(name, func(t *testing.T) {
			k := &conntracktest.Kernel{Flows: []conntracktest.Flow{natted(1)}}
			var scanned time.Duration
			k.Pause = func(datagram int) {
				if datagram == 0 {
					scanned += 300 * time.Millisecond
				}
			}
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c := NewConntrack(ConntrackConfig{
					Proc: conntrackProc(t, 9, 30), Open: k.Open, MinInterval: DefaultConntrackMinInterval,
					MaxCPU: DefaultConntrackMaxCPU,
					Spent:  func() time.Duration { return scanned + time.Since(start)/1000 },
				})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { c.Run(ctx); close(done) }()
				_, _ = looked(c, flannelPort)
				k.SetReply(reply)
				time.Sleep(idleAfter - time.Second)
				cancel()
				<-done
				if n := dumps(k); n < 12 || n > 13 {
					t.Errorf("%d scans in ten minutes", n)
				}
				paid := c.conf.Spent() - 350*time.Millisecond // all but the last scan and what was spent since
				if share := paid.Seconds() / time.Since(start).Seconds(); share > DefaultConntrackMaxCPU/100.0 {
					t.Errorf("%.2f %% of a CPU", 100*share)
				}
			})
		})
	}
}
