package collectors

import (
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

const (
	// slowestScans is the longest time after which a scrape scans, whatever that costs: with scrapes every 15, 20, 30 or
	// 60 s that is once a minute. slowestBackground is the same of the scans for which no scrape comes in time.
	slowestScans      = 55 * time.Second
	slowestBackground = time.Minute

	// alarmMemory is how long scans are made often after NATed flows were seen or bad checksums rose.
	alarmMemory = 10 * time.Minute

	// defaultUDPTimeout is the kernel's (udp_timeouts, net/netfilter/nf_conntrack_proto_udp.c), for when it cannot be
	// read.
	defaultUDPTimeout = 30 * time.Second
)

// scanLessons is what observations tell of how much there is to learn from a scan.
type scanLessons struct {
	exposed bool      // a device is exposed or active
	settled bool      // every device is clear for a reason that no scan can refute
	bad     *float64  // bad checksums, by all counters of the node; nil: not known yet
	alarmed time.Time // when NATed flows were seen, or bad checksums rose, last
}

// interval is how long after the end of a scan the next one is due. Nothing is missed while scans come within the time
// that a NATed flow outlives its last packet (nf_conntrack_udp_timeout). What the last scan cost, the CPU time of this
// process from the end of the scan before, is earned back, so that the whole process takes share of one CPU at most (0:
// no bound), but for that it is never longer than slowestScans; nor is it shorter than fastest.
func (l *scanLessons) interval(
	now time.Time, udpTimeout, cost, fastest time.Duration, share float64,
) time.Duration {
	wanted := udpTimeout / 3 * 2
	switch {
	case l.exposed || !l.alarmed.IsZero() && now.Sub(l.alarmed) < alarmMemory:
		wanted = fastest
	case l.settled:
		wanted = slowestScans
	}
	if share > 0 {
		wanted = max(wanted, time.Duration(float64(cost)/share))
	}
	return max(fastest, min(wanted, slowestScans))
}

// inBackground is how long after the end of a scan the next one is made without a scrape. A scrape that comes within
// half an interval more makes it instead: what is found between two scrapes is told no earlier. No flow is missed for
// that.
func inBackground(interval, udpTimeout time.Duration) time.Duration {
	latest := min(interval/2*3, slowestBackground)
	if interval <= udpTimeout {
		latest = min(latest, udpTimeout)
	}
	return max(interval, latest)
}

// learn takes in the observation before.
func (l *scanLessons) learn(n *node.Node, now time.Time) {
	l.exposed, l.settled = false, len(n.Devices) > 0
	for _, e := range diagnosis.Exposures(n) {
		l.exposed = l.exposed || e.State == diagnosis.Exposed || e.State == diagnosis.Active
		l.settled = l.settled && e.Settled
	}
	if bad := badChecksums(n); bad != nil {
		if l.bad != nil && *bad > *l.bad {
			l.alarmed = now
		}
		l.bad = bad
	}
}

// badChecksums sums the UDP datagrams with a bad checksum and the bad packets captured; nil when no counter was read.
func badChecksums(n *node.Node) *float64 {
	errors, known := csumErrors(n.Host.UDP4, n.Host.UDP6)
	if !known {
		return nil
	}
	sum := float64(errors)
	if n.Wire != nil {
		for _, b := range n.Wire.Bad {
			sum += b.Packets
		}
	}
	return &sum
}

// processCPU is the CPU time that this process has taken (clock_gettime(2)), all threads and the kernel on their
// behalf.
func processCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0 // not known to fail
	}
	return time.Duration(ts.Nano())
}
