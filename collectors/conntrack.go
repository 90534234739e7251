package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"

	"golang.org/x/sys/unix"
)

// Values that suit ConntrackConfig. MinInterval and MaxCPU have no defaults of their own.
const (
	DefaultConntrackMinInterval = 10 * time.Second
	DefaultConntrackMaxCPU      = 1
	DefaultConntrackTimeout     = 5 * time.Second
)

// ConntrackConfig says where and how often the connection tracking table is read.
type ConntrackConfig struct {
	Proc        string               // where procfs is mounted; empty: /proc
	Strategy    conntrack.Strategy   // empty: conntrack.Auto
	MinInterval time.Duration        // from one scan to the next, at least; 0: every Observe scans
	MaxCPU      float64              // percent of one CPU that this process takes before scans become rarer; 0: no bound
	Timeout     time.Duration        // of one scan
	Open        conntrack.Opener     // nil: conntrack.Open
	Spent       func() time.Duration // CPU time of this process so far; nil: as the kernel counts it
	Logger      *slog.Logger         // of Run's changes of state; nil: none
}

// Conntrack counts the tracked and the NATed flows of every VXLAN port. However many ask, the table is scanned when a
// scan is due: scanLessons.interval after the last one. Run makes those scans for which nobody asks in time.
type Conntrack struct {
	Metrics
	conf       ConntrackConfig
	sysctls    conntrack.Sysctls
	background background

	turn    chan struct{} // held by whoever scans
	scanner *conntrack.Scanner
	tally   conntrackTally
	seen    *seenFlows

	mu      sync.Mutex // guards what follows
	ports   []node.Port
	lessons scanLessons
	result  conntrackResult
}

// conntrackResult is what the last complete scan found, and how the last scan at all went. The slices are never written
// to again.
type conntrackResult struct {
	found   node.Conntrack     // without the size of the table
	tried   time.Time          // when the last scan ended, well or not
	spent   time.Duration      // CPU time of this process by then
	cost    time.Duration      // of this, since the scan before
	targets []conntrack.Target // it looked for these
	err     error
}

// NewConntrack makes the collector. Nothing is opened before the first Observe.
func NewConntrack(c ConntrackConfig) *Conntrack {
	c.Proc = cmp.Or(c.Proc, "/proc")
	c.Timeout = cmp.Or(c.Timeout, DefaultConntrackTimeout)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Spent == nil {
		c.Spent = processCPU
	}
	seen := newSeenFlows()
	return &Conntrack{
		Metrics:    conntrackMetrics(),
		conf:       c,
		sysctls:    conntrack.NewSysctls(c.Proc),
		background: newBackground(),
		turn:       make(chan struct{}, 1),
		scanner:    conntrack.NewScanner(conntrack.Config{Open: c.Open, Proc: c.Proc, Strategy: c.Strategy}),
		tally:      conntrackTally{seed: seen.seed},
		seen:       seen,
	}
}

// Observe returns the result of the last scan, and scans when one is due. When a scan fails the last complete one is
// filled in, marked stale, and the error returned. The error wraps fs.ErrNotExist when nothing is tracked here,
// fs.ErrPermission without CAP_NET_ADMIN, errors.ErrUnsupported when the kernel has no ctnetlink. The size of the table
// is filled in whatever happens: reading it takes no privilege.
func (c *Conntrack) Observe(ctx context.Context, known *node.Node) (Fill, error) {
	c.mu.Lock()
	c.ports = slices.Clone(known.Ports)
	c.lessons.learn(known, time.Now())
	c.mu.Unlock()
	c.background.observed()

	entries, err := c.sysctls.Count()
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	r := c.freshResult(ctx, false)
	found := r.found
	found.Entries = &entries
	var limitErr, bucketsErr, timeoutErr error
	found.Limit, limitErr = shown(c.sysctls.Limit)
	found.Buckets, bucketsErr = shown(c.sysctls.Buckets)
	found.UDPTimeout, timeoutErr = shown(c.sysctls.UDPTimeout)
	_, _, _, found.ScanInterval = c.state()
	if found.Scan != nil {
		scan := *found.Scan
		scan.Stale = r.err != nil
		found.Scan = &scan
	}
	return func(n *node.Node) { n.Conntrack = found }, errors.Join(r.err, limitErr, bucketsErr, timeoutErr)
}

// shown is what a sysctl says; nil where this kernel or namespace does not show it.
func shown[T any](read func() (T, error)) (*T, error) {
	v, err := read()
	if err != nil {
		return nil, ifThere(err)
	}
	return &v, nil
}

// Run makes the scans that are due, until ctx ends. A flow that VXLAN makes never gets an answer, so the kernel forgets
// it nf_conntrack_udp_timeout after its last packet: with scrapes alone, 60 s apart, half of the short NATed flows
// would come and go unseen. It rests while nothing observes, from the start and idleAfter the last Observe.
func (c *Conntrack) Run(ctx context.Context) {
	c.background.run(ctx, func() time.Time {
		r, _, _, latest := c.state()
		if r.tried.IsZero() {
			return time.Now().Add(time.Second) // the Observe that woke us is about to make the first scan
		}
		return r.tried.Add(latest)
	}, func(ctx context.Context) { c.freshResult(ctx, true) })
}

// freshResult waits for its turn, then scans unless the result is fresh. In the background, where nobody reports it, a
// change of the outcome is logged.
func (c *Conntrack) freshResult(ctx context.Context, background bool) conntrackResult {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		r, _, _, _ := c.state()
		r.err = fmt.Errorf("conntrack: another scan is still under way: %w", ctx.Err())
		return r
	}
	last, ports, interval, latest := c.state()
	targets := conntrackTargets(ports)
	if background {
		interval = latest
	}
	if time.Since(last.tried) < interval &&
		(background || c.conf.MinInterval > 0 && slices.Equal(targets, last.targets)) {
		return last
	}
	r := c.scan(ctx, targets, last)
	if status := node.Classify(r.err); background && ctx.Err() == nil && status != node.Classify(last.err) {
		if r.err != nil {
			c.conf.Logger.Warn("background conntrack scan failed", "status", string(status), "err", r.err)
		} else {
			c.conf.Logger.Info("background conntrack scan works again", "strategy", string(r.found.Scan.Strategy))
		}
	}
	return r
}

// scan makes one scan, in its turn, and keeps the result.
func (c *Conntrack) scan(ctx context.Context, targets []conntrack.Target, last conntrackResult) conntrackResult {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	c.tally.targets = targets
	stats, err := c.scanner.Scan(ctx, targets, &c.tally)
	r := last
	spent := c.conf.Spent()
	r.tried, r.targets, r.spent, r.cost, r.err = time.Now(), targets, spent, spent-last.spent, err
	if err == nil {
		c.seen.commit(&c.tally, r.tried)
		r.found = node.Conntrack{
			Ports: c.tally.ports(c.seen), NATFlows: slices.Clone(c.tally.evidence), Sources: c.seen.natSources(),
			SeenOverflow: c.seen.overflow,
			Scan:         &node.Scan{Time: r.tried, Stats: stats},
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.result = r; err == nil && len(r.found.NATFlows) > 0 {
		c.lessons.alarmed = r.tried
	}
	return r
}

// state is the last result, the ports to look for now, and how long after the last scan the next one is due: to an
// Observe, and at the latest.
func (c *Conntrack) state() (r conntrackResult, ports []node.Port, interval, latest time.Duration) {
	timeout, err := c.sysctls.UDPTimeout()
	if err != nil {
		timeout = defaultUDPTimeout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Where every Observe scans, those between are for flows that come and go between two scrapes.
	fastest := cmp.Or(c.conf.MinInterval, timeout/3*2)
	interval = c.lessons.interval(time.Now(), timeout, c.result.cost, fastest, c.conf.MaxCPU/100)
	return c.result, c.ports, interval, inBackground(interval, timeout)
}

// conntrackTargets are the flows to look for, sorted: each port on the families its underlay uses.
func conntrackTargets(ports []node.Port) []conntrack.Target {
	var targets []conntrack.Target
	for _, p := range ports {
		if p.IPv4 {
			targets = append(targets, conntrack.Target{Family: unix.AF_INET, Port: p.Port})
		}
		if p.IPv6 {
			targets = append(targets, conntrack.Target{Family: unix.AF_INET6, Port: p.Port})
		}
	}
	sort.Slice(targets, func(i, j int) bool { return compareTargets(targets[i], targets[j]) < 0 })
	return slices.Compact(targets)
}

func compareTargets(a, b conntrack.Target) int {
	return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Port, b.Port))
}

func familyLabel(family uint8) string {
	if family == unix.AF_INET6 {
		return node.IPv6
	}
	return node.IPv4
}

// conntrackMetrics has no metrics of flows before the first complete scan: not having scanned is not zero.
func conntrackMetrics() Metrics {
	ports := func(samples func(n *node.Node, p *node.ConntrackPort, port string, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if n.Conntrack.Scan == nil {
				return
			}
			for i := range n.Conntrack.Ports {
				p := &n.Conntrack.Ports[i]
				samples(n, p, strconv.Itoa(int(p.Port)), emit)
			}
		}
	}
	scan := func(value func(n *node.Node, s *node.Scan) float64) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if s := n.Conntrack.Scan; s != nil {
				emit(value(n, s))
			}
		}
	}
	return NewMetrics("conntrack", Metric{
		Name:    "conntrack_entries",
		Help:    "Tracked connections of this network namespace: net.netfilter.nf_conntrack_count.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Entries) },
	}, Metric{
		Name:    "conntrack_entries_limit",
		Help:    "Most connections that may be tracked: net.netfilter.nf_conntrack_max.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Limit) },
	}, Metric{
		Name:    "conntrack_buckets",
		Help:    "Hash buckets of the table that all network namespaces share: net.netfilter.nf_conntrack_buckets.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Buckets) },
	}, Metric{
		Name: "conntrack_flows", Labels: []string{"family", "port"},
		Help:  "Tracked UDP flows whose original destination (CTA_TUPLE_ORIG, CTA_PROTO_DST_PORT) is a VXLAN port.",
		Notes: "0 with VXLAN traffic: the port is not tracked (NOTRACK), and this failure cannot happen.",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.Flows), p.Family, port)
		}),
	}, Metric{
		Name: "conntrack_nat_flows", Labels: []string{"family", "port", "nat=snat,dnat"},
		Help: "Of these, flows whose source (snat) or destination (dnat) is rewritten: IPS_SRC_NAT or IPS_DST_NAT of " +
			"CTA_STATUS, or a reply tuple that does not answer the original.",
		Notes: "**Any snat is the cause of the failure.**",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.SNAT), p.Family, port, "snat")
			emit(float64(p.DNAT), p.Family, port, "dnat")
		}),
	}, Metric{
		Name: "conntrack_nat_flows_seen_total", Labels: []string{"family", "port", "nat=snat,dnat"},
		SinceStart: true,
		Help:       "Distinct NATed flows seen in any scan since the exporter started, by CTA_ID and tuples.",
		Notes:      "One that lives as long as vxlan_conntrack_scan_interval_seconds is counted, whoever scrapes when.",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.SeenSNAT), p.Family, port, "snat")
			emit(float64(p.SeenDNAT), p.Family, port, "dnat")
		}),
	}, Metric{
		Name: "conntrack_last_snat_timestamp_seconds", Labels: []string{"family", "port"},
		SinceStart: true,
		Help:       "When a scan last found a source-NATed flow, Unix time; absent where none did within an hour.",
		Samples: ports(func(n *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			var last time.Time
			for _, s := range n.Conntrack.Sources {
				if s.Family == p.Family && s.Port == p.Port && s.Seen.After(last) {
					last = s.Seen
				}
			}
			if !last.IsZero() {
				emit(float64(last.UnixMilli())/1000, p.Family, port)
			}
		}),
	}, Metric{
		Name:       "conntrack_nat_flows_seen_overflow_total",
		SinceStart: true,
		Help: "NATed flows left out of vxlan_conntrack_nat_flows_seen_total because more than 65536 live at a time, once " +
			"in every scan.",
		Samples: scan(func(n *node.Node, _ *node.Scan) float64 { return float64(n.Conntrack.SeenOverflow) }),
	}, Metric{
		Name: "conntrack_scan_interval_seconds",
		Help: "Longest time from one scan to the next at the present pace, which follows --conntrack.max-cpu and what " +
			"there is to learn.",
		Notes: "A NATed flow that lives L seconds is seen with the probability L / interval or more. See " +
			"[PERFORMANCE.md](PERFORMANCE.md#how-often).",
		Samples: scan(func(n *node.Node, _ *node.Scan) float64 { return n.Conntrack.ScanInterval.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_entries",
		Help:    "Entries that the kernel sent in the scan served.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return float64(s.Entries) }),
	}, Metric{
		Name:    "conntrack_scan_duration_seconds",
		Help:    "How long the scan served took.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return s.Duration.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_timestamp_seconds",
		Help:    "When the scan served ended, Unix time.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return float64(s.Time.UnixMilli()) / 1000 }),
	}, Metric{
		Name:    "conntrack_scan_age_seconds",
		Help:    "Age of the scan served when this observation began; 0 when it was made for it.",
		Samples: scan(func(n *node.Node, s *node.Scan) float64 { return max(0, n.Time.Sub(s.Time)).Seconds() }),
	}, Metric{
		Name: "conntrack_scan_longest_receive_seconds",
		Help: "Longest single receive of the scan served, CPU time: packet reception (softirqs) on that CPU was held off " +
			"at most so long.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return s.LongestReceive.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_filtered",
		Help:    "1 when the kernel filtered for the scan served (NLM_F_DUMP_FILTERED), 0 when everything was streamed.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return boolean(s.Filtered) }),
	}, Metric{
		Name:    "conntrack_scan_stale",
		Help:    "1 when a later scan failed and this is the last complete one, else 0.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return boolean(s.Stale) }),
	})
}
