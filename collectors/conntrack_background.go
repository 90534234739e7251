package collectors

import (
	"context"
	"log/slog"
	"time"

	"vxlan_exporter/internal/node"
)

// Bounds of the pause between two scans, whatever nf_conntrack_udp_timeout says, and its value in the kernel's default of 30 s
// (udp_timeouts, net/netfilter/nf_conntrack_proto_udp.c), for when it cannot be read.
const (
	minScanPause     = time.Second
	maxScanPause     = 5 * time.Minute
	defaultScanPause = 20 * time.Second
)

// Run scans in the background until ctx ends, whenever nobody has scanned for two thirds of nf_conntrack_udp_timeout. A flow that
// VXLAN makes never gets an answer, so the kernel forgets it that long after its last packet: with scrapes alone, 60 s apart, half
// of the short NATed flows would come and go unseen. It rests while nothing observes, from the start and after IdleAfter.
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
		observed, tried := c.observed, c.result.tried
		if !tried.IsZero() && state == "" {
			state = node.Classify(c.result.err)
		}
		c.mu.Unlock()
		if observed.IsZero() || time.Since(observed) >= c.conf.IdleAfter {
			timer.Stop() // the next Observe goes on
			continue
		}
		pause := c.scanPause()
		if due := tried.Add(pause); !tried.IsZero() && time.Now().Before(due) {
			timer.Reset(time.Until(due))
			continue
		}
		if tried.IsZero() { // the Observe that woke us is about to make the first scan
			timer.Reset(minScanPause)
			continue
		}
		state = c.scanInBackground(ctx, state)
		timer.Reset(pause)
	}
}

// scanPause is two thirds of the time that a flow outlives its last packet.
func (c *Conntrack) scanPause() time.Duration {
	timeout, err := c.sysctls.UDPTimeout()
	if err != nil {
		return defaultScanPause
	}
	return min(max(timeout*2/3, minScanPause), maxScanPause)
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
	r, targets := c.result, conntrackTargets(c.ports)
	c.mu.Unlock()
	if known := node.Classify(r.err); known != last {
		last = known // an Observe has reported this
	}
	if time.Since(r.tried) < minScanPause {
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
