package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"

	"golang.org/x/sys/unix"
)

// Values that suit ConntrackConfig. MinInterval and MaxCPU have no defaults of their own.
const (
	DefaultConntrackMinInterval = 10 * time.Second
	DefaultConntrackMaxCPU      = 0.01
	DefaultConntrackTimeout     = 5 * time.Second
	DefaultConntrackIdleAfter   = 10 * time.Minute
)

// ConntrackConfig says where and how often the connection tracking table is read.
type ConntrackConfig struct {
	Proc        string               // where procfs is mounted; empty: /proc
	Strategy    conntrack.Strategy   // empty: conntrack.Auto
	MinInterval time.Duration        // from one scan to the next, at least; 0: every Observe scans
	MaxCPU      float64              // share of one CPU that this process may take before scans become rarer; 0: no bound
	Timeout     time.Duration        // of one scan
	IdleAfter   time.Duration        // Run rests when nothing has observed for so long
	Open        conntrack.Opener     // nil: conntrack.Open
	Spent       func() time.Duration // CPU time of this process so far; nil: as the kernel counts it
	Logger      *slog.Logger         // of Run's changes of state; nil: none
}

// Conntrack counts the tracked and the NATed flows of every VXLAN port. However many ask, the table is scanned when a
// scan is due: scanNeed.interval after the last one. Run makes those scans for which nobody asks in time.
type Conntrack struct {
	Metrics
	conf    ConntrackConfig
	sysctls conntrack.Sysctls
	observe chan struct{} // tells Run that somebody is looking again

	turn    chan struct{} // held by whoever scans
	scanner *conntrack.Scanner
	tally   conntrackTally
	seen    *seenFlows

	mu       sync.Mutex // guards what follows
	ports    []node.Port
	observed time.Time // last Observe
	lessons  scanLessons
	result   conntrackResult
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
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultConntrackTimeout
	}
	if c.IdleAfter <= 0 {
		c.IdleAfter = DefaultConntrackIdleAfter
	}
	if c.Spent == nil {
		c.Spent = processCPU
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	seen := newSeenFlows()
	return &Conntrack{
		Metrics: conntrackMetrics(),
		conf:    c,
		sysctls: conntrack.NewSysctls(c.Proc),
		observe: make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
		scanner: conntrack.NewScanner(conntrack.Config{Open: c.Open, Proc: c.Proc, Strategy: c.Strategy}),
		tally:   conntrackTally{seed: seen.seed},
		seen:    seen,
	}
}

// Name is "conntrack".
func (*Conntrack) Name() string { return "conntrack" }

// Observe returns the result of the last scan, and scans when one is due. When a scan fails the last complete one is
// filled in, marked stale, and the error returned. The error wraps fs.ErrNotExist when nothing is tracked here,
// fs.ErrPermission without CAP_NET_ADMIN, errors.ErrUnsupported when the kernel has no ctnetlink. The size of the table
// is filled in whatever happens: reading it takes no privilege.
func (c *Conntrack) Observe(ctx context.Context, known *node.Node) (Fill, error) {
	c.mu.Lock()
	c.ports, c.observed = slices.Clone(known.Ports), time.Now()
	c.lessons.learn(known, c.observed)
	c.mu.Unlock()
	select {
	case c.observe <- struct{}{}:
	default:
	}

	var table node.Conntrack
	err := c.readTable(&table)
	if table.Entries == nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	result, scanErr := c.freshResult(ctx)
	c.mu.Lock()
	interval := c.interval()
	c.mu.Unlock()
	return func(n *node.Node) {
		n.Conntrack = result.found
		n.Conntrack.ScanInterval = interval
		n.Conntrack.Entries, n.Conntrack.Limit = table.Entries, table.Limit
		n.Conntrack.Buckets, n.Conntrack.UDPTimeout = table.Buckets, table.UDPTimeout
		if scan := result.found.Scan; scan != nil {
			n.Conntrack.Scan = &node.Scan{Time: scan.Time, Stats: scan.Stats, Stale: scanErr != nil}
		}
	}, errors.Join(scanErr, err)
}

// readTable reads the sysctls. Apart from the number of entries, one that this kernel or namespace does not show stays
// nil.
func (c *Conntrack) readTable(t *node.Conntrack) error {
	entries, err := c.sysctls.Count()
	if err != nil {
		return err
	}
	t.Entries = &entries
	limit, errLimit := c.sysctls.Limit()
	if errLimit == nil {
		t.Limit = &limit
	}
	buckets, errBuckets := c.sysctls.Buckets()
	if errBuckets == nil {
		t.Buckets = &buckets
	}
	timeout, errTimeout := c.sysctls.UDPTimeout()
	if errTimeout == nil {
		t.UDPTimeout = &timeout
	}
	return errors.Join(ifThere(errLimit), ifThere(errBuckets), ifThere(errTimeout))
}

// freshResult waits for its turn, then scans unless the result is fresh.
func (c *Conntrack) freshResult(ctx context.Context) (conntrackResult, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.result, fmt.Errorf("conntrack: another scan is still under way: %w", ctx.Err())
	}
	c.mu.Lock()
	r, targets, interval := c.result, conntrackTargets(c.ports), c.interval()
	c.mu.Unlock()
	fresh := c.conf.MinInterval > 0 && !r.tried.IsZero() && time.Since(r.tried) < interval
	if fresh && slices.Equal(targets, r.targets) {
		return r, r.err
	}
	r = c.scan(ctx, targets, r)
	return r, r.err
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

// interval is how long after the last scan the next one is due. c.mu is held.
func (c *Conntrack) interval() time.Duration {
	timeout, err := c.sysctls.UDPTimeout()
	if err != nil {
		timeout = defaultUDPTimeout
	}
	need := scanNeed{
		cost: c.result.cost, udpTimeout: timeout, exposed: c.lessons.exposed, settled: c.lessons.settled,
		alarm: !c.lessons.alarmed.IsZero() && time.Since(c.lessons.alarmed) < alarmMemory,
	}
	// Where every Observe scans, those between are for flows that come and go between two scrapes.
	return need.interval(cmp.Or(c.conf.MinInterval, timeout/3*2), c.conf.MaxCPU)
}

// conntrackTargets are the flows to look for: each port on the families its underlay uses.
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
	if a.Family != b.Family {
		return int(a.Family) - int(b.Family)
	}
	return int(a.Port) - int(b.Port)
}

func familyLabel(family uint8) string {
	if family == unix.AF_INET6 {
		return node.IPv6
	}
	return node.IPv4
}
