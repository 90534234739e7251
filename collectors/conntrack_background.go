package collectors

import (
	"context"
	"log/slog"
	"time"

	"vxlan_exporter/internal/node"
)

// Run makes the scans that are due, until ctx ends. A flow that VXLAN makes never gets an answer, so the kernel forgets
// it nf_conntrack_udp_timeout after its last packet: with scrapes alone, 60 s apart, half of the short NATed flows
// would come and go unseen. It rests while nothing observes, from the start and after IdleAfter.
func (c *Conntrack) Run(ctx context.Context) {
	var state node.Status // as last reported, by an Observe or here
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.observe:
		}
		c.mu.Lock()
		observed, tried, interval := c.observed, c.result.tried, c.interval()
		if !tried.IsZero() && state == "" {
			state = node.Classify(c.result.err)
		}
		c.mu.Unlock()
		if observed.IsZero() || time.Since(observed) >= c.conf.IdleAfter {
			timer.Stop() // the next Observe goes on
			continue
		}
		switch due := tried.Add(interval); {
		case tried.IsZero(): // the Observe that woke us is about to make the first scan
			timer.Reset(time.Second)
		case time.Now().Before(due):
			timer.Reset(time.Until(due))
		default:
			state = c.scanInBackground(ctx, state)
			timer.Reset(0) // the pause depends on what this one has cost and found
		}
	}
}

// scanInBackground scans unless somebody just has, and logs when the outcome is another than the last known.
func (c *Conntrack) scanInBackground(ctx context.Context, last node.Status) node.Status {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return last
	}
	c.mu.Lock()
	r, targets, interval := c.result, conntrackTargets(c.ports), c.interval()
	c.mu.Unlock()
	if known := node.Classify(r.err); known != last {
		last = known // an Observe has reported this
	}
	if time.Since(r.tried) < interval {
		return last
	}
	r = c.scan(ctx, targets, r)
	if ctx.Err() != nil {
		return last
	}
	now := node.Classify(r.err)
	switch {
	case now == last:
	case r.err != nil:
		c.conf.Logger.Warn("background conntrack scan failed", slog.String("status", string(now)), slog.Any("err", r.err))
	default:
		c.conf.Logger.Info("background conntrack scan works again", slog.String("strategy", string(r.found.Scan.Strategy)))
	}
	return now
}
