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
	DefaultConntrackMaxCPU      = 1
	DefaultConntrackTimeout     = 5 * time.Second
)

// ConntrackConfig says where and how often the connection tracking table is read.
type ConntrackConfig struct {
	Proc        string               // where procfs is mounted; empty: /proc
	Strategy    conntrack.Strategy   // empty: conntrack.Auto
	MinInterval time.Duration        // from one scan to the next, at least; 0: every Observe scans
	MaxCPU      float64              // percent of one CPU that this process may take before scans become rarer; 0: no bound
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
