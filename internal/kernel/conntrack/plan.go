package conntrack

import (
	"time"

	"golang.org/x/sys/unix"
)

// Costs of a dump, measured on Linux 6.18 (docs/PERFORMANCE.md). They need not be exact: they only choose.
const (
	costBucket = 20 * time.Nanosecond   // walk over one bucket
	costWalk   = 300 * time.Nanosecond  // walk over one entry, sent or not
	costSend   = 1000 * time.Nanosecond // write one entry to the reply and read it, on top of that

	entriesPerReceive = 18 // that fit in bufferSize when nothing is known yet: 224 bytes each
)

const (
	// plannedHold is the longest receive that a filter may be expected to need: well under the 2.5 ms that
	// net.core.netdev_budget_usecs (2 jiffies) and a busy CPU's backlog absorb without loss. The margin is for what
	// changes between two scans: UDP entries live 30 s, and a filter that finds a quarter of them gone still keeps 2 ms.
	plannedHold = 500 * time.Microsecond

	// knowledgeLife is how long a count of UDP entries is trusted: from one scan to the next at the slowest pace, a
	// minute, and on.
	knowledgeLife = 2 * time.Minute

	// slowHold is the average receive of a filtered scan above which no filter is used for filterBreak.
	slowHold    = time.Millisecond
	filterBreak = 10 * time.Minute

	// sampleSize is how many entries tell what the rest of the table is made of: 36 UDP entries are then known to within
	// a third.
	sampleSize = 10_000
)

// planner chooses how to scan. It prefers, among the ways whose receives are expected to be short, the one that costs
// least CPU. The first scan streams everything, which no way beats in holding softirqs off briefly, and tells what the
// table is made of.
type planner struct {
	strategy Strategy

	noFilter   bool // the kernel refuses filters or ignores them
	honored    bool // a filtered dump carried the flag
	breakUntil time.Time

	at  [2]time.Time // when udp was counted, by family index
	udp [2]uint64
	all [2]uint64
	// part of the walk that this namespace's entries do not explain: other namespaces', a slower CPU
	foreign    time.Duration
	perReceive float64 // entries in one full reply

	dumps []dump
}

// choose returns the dumps of the next scan; the slice is valid until the next call.
func (p *planner) choose(fams []uint8, buckets, count uint64, now time.Time) (Strategy, []dump) {
	walk := p.walk(buckets, count)
	p.dumps = p.dumps[:0]
	if p.filters(fams, walk, count, now) {
		for _, f := range fams {
			p.dumps = append(p.dumps, dump{family: f, udp: true})
		}
		return Filter, p.dumps
	}
	// Naming a family is a filter too, so it is done only where enough of the table is of that family.
	family := uint8(unix.AF_UNSPEC)
	if len(fams) == 1 {
		if i := familyIndex(fams[0]); p.knows(i, now) && p.hold(walk, p.all[i]) <= plannedHold {
			family = fams[0]
		}
	}
	p.dumps = append(p.dumps, dump{family: family})
	return Full, p.dumps
}

// filters reports whether filtered dumps are expected to take less CPU than everything, in receives that are short
// enough.
func (p *planner) filters(fams []uint8, walk time.Duration, count uint64, now time.Time) bool {
	if p.strategy == Full || p.noFilter || now.Before(p.breakUntil) {
		return false
	}
	cost := time.Duration(0)
	for _, f := range fams {
		i := familyIndex(f)
		if p.strategy == Auto && (!p.knows(i, now) || p.hold(walk, p.udp[i]) > plannedHold) {
			return false
		}
		cost += walk + costSend*time.Duration(p.udp[i])
	}
	return p.strategy == Filter || cost < walk+costSend*time.Duration(count)
}

// knows reports whether the entries of a family were counted not long ago.
func (p *planner) knows(family int, now time.Time) bool {
	return now.Sub(p.at[family]) <= knowledgeLife
}

// walk estimates the time to walk over the whole table.
func (p *planner) walk(buckets, count uint64) time.Duration {
	const limit = 1 << 32 // of both: what the kernel's own types hold, so that a lying procfs overflows nothing
	return costBucket*time.Duration(min(buckets, limit)) + costWalk*time.Duration(min(count, limit)) + p.foreign
}

// hold estimates the longest receive of a dump that sends so many of the entries it walks over.
func (p *planner) hold(walk time.Duration, sent uint64) time.Duration {
	per := p.perReceive
	if per < 1 {
		per = entriesPerReceive
	}
	return time.Duration(float64(walk) / max(1, float64(sent)/per))
}

// sample takes note of the part of a full dump that has come, as if all were like it, and reports whether a filter is
// better than the rest. The hash has spread the entries, so that the first buckets are a random sample.
func (p *planner) sample(fams []uint8, t tally, buckets, count uint64, now time.Time) bool {
	scale := float64(count) / float64(t.entries)
	for i := range t.udp {
		t.udp[i], t.all[i] = uint64(float64(t.udp[i])*scale), uint64(float64(t.all[i])*scale)
	}
	t.entries, t.receives, t.cpu = count, uint64(float64(t.receives)*scale), time.Duration(float64(t.cpu)*scale)
	p.learn(Full, []dump{{family: unix.AF_UNSPEC}}, &t, buckets, count, now)
	return p.filters(fams, p.walk(buckets, count), count, now)
}

// learn takes note of a completed scan and reports whether the kernel filtered.
func (p *planner) learn(
	strategy Strategy, dumps []dump, t *tally, buckets, count uint64, now time.Time,
) (filtered bool) {
	for i := range p.udp {
		for _, d := range dumps {
			if d.family != unix.AF_UNSPEC && familyIndex(d.family) != i {
				continue
			}
			p.udp[i], p.at[i] = t.udp[i], now
			if !d.udp {
				p.all[i] = t.all[i]
			}
		}
	}
	if strategy == Full {
		if t.receives > 1 {
			p.perReceive = float64(t.entries) / float64(t.receives-1) // the last carries NLMSG_DONE alone
		}
		if dumps[0].family == unix.AF_UNSPEC {
			p.foreign = 0
			p.foreign = max(0, t.cpu-costSend*time.Duration(t.entries)-p.walk(buckets, count))
		}
		return false
	}

	p.noFilter = p.noFilter || t.ignored
	p.honored = !t.ignored && (p.honored || t.flagged)
	// The hash spreads entries evenly over the buckets, so where a filter matches too little every receive is slow. Single
	// slow ones among quick ones are interrupts, softirqs that were due, or a virtual CPU that was taken away: a busy node
	// has one in every scan.
	if t.cpu/time.Duration(max(1, t.receives)) > slowHold {
		p.breakUntil = now.Add(filterBreak)
	}
	return p.honored
}
