package conntrack

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scanned is a planner that has made a full scan of a table.
func scanned(strategy Strategy, buckets, entries, udp uint64, now time.Time) *planner {
	p := &planner{strategy: strategy}
	t := &tally{entries: entries, receives: entries/entriesPerReceive + 2}
	t.all[0], t.udp[0] = entries, udp
	p.learn(Full, []dump{{family: unix.AF_UNSPEC}}, t, buckets, entries, now)
	return p
}

func TestChoice(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		strategy              Strategy
		buckets, entries, udp uint64
		want                  Strategy
	}{
		"a million, few UDP":          {Auto, 262144, 1000000, 500, Full},
		"a million, many UDP":         {Auto, 262144, 1000000, 50000, Filter},
		"a million, all UDP":          {Auto, 262144, 1000000, 1000000, Full},
		"100k, few UDP":               {Auto, 262144, 100000, 50, Full},
		"100k, many UDP":              {Auto, 262144, 100000, 20000, Filter},
		"10k, few UDP":                {Auto, 262144, 10000, 50, Full},
		"10k, many UDP":               {Auto, 262144, 10000, 2000, Filter},
		"4k, in a small table":        {Auto, 16384, 4000, 50, Full},
		"a thousand in a small table": {Auto, 16384, 1000, 50, Filter},
		"nothing but a large table":   {Auto, 1 << 20, 10, 1, Full},
		"full by name":                {Full, 262144, 1000000, 500000, Full},
		"filter by name":              {Filter, 262144, 1000000, 10, Filter},
		"absurd numbers of a procfs":  {Auto, 1 << 63, 1 << 63, 50, Full},
		"absurd numbers, all of them": {Filter, ^uint64(0), ^uint64(0), ^uint64(0), Filter},
	} {
		p := scanned(c.strategy, c.buckets, c.entries, c.udp, now)
		got, dumps := p.choose([]uint8{unix.AF_INET}, c.buckets, c.entries, now.Add(10*time.Second))
		if got != c.want {
			t.Errorf("%s: %s (%+v), want %s", name, got, dumps, c.want)
		}
	}
}

// Whatever is chosen must be expected to hold softirqs off no longer than allowed, unless even everything cannot do better.
func TestChoiceBoundsTheHold(t *testing.T) {
	now := time.Now()
	for _, buckets := range []uint64{1024, 65536, 262144, 1 << 20} {
		for _, entries := range []uint64{100, 10000, 100000, 1000000} {
			for udp := uint64(1); udp <= entries; udp *= 3 {
				for _, fams := range [][]uint8{{unix.AF_INET}, {unix.AF_INET6}, {unix.AF_INET, unix.AF_INET6}} {
					p := scanned(Auto, buckets, entries, udp, now)
					walk := p.walk(buckets, entries)
					_, dumps := p.choose(fams, buckets, entries, now)
					for _, d := range dumps {
						sent := entries
						switch {
						case d.udp:
							sent = p.udp[familyIndex(d.family)]
						case d.family != unix.AF_UNSPEC:
							sent = p.all[familyIndex(d.family)]
						}
						hold := p.hold(walk, sent)
						if hold > plannedHold && hold > p.hold(walk, entries) {
							t.Errorf("%d buckets, %d entries, %d UDP: %+v holds %v", buckets, entries, udp, d, hold)
						}
					}
				}
			}
		}
	}
}

func TestFirstScanAndOldKnowledgeStreamEverything(t *testing.T) {
	now := time.Now()
	p := &planner{strategy: Auto}
	if s, d := p.choose([]uint8{unix.AF_INET}, 1024, 10, now); s != Full || d[0].family != unix.AF_UNSPEC {
		t.Errorf("first scan: %s %+v", s, d)
	}
	p = scanned(Auto, 262144, 1000000, 100000, now)
	if s, _ := p.choose([]uint8{unix.AF_INET}, 262144, 1000000, now.Add(2*knowledgeLife)); s != Full {
		t.Errorf("with old knowledge: %s", s)
	}
}

func TestSlowFilterRests(t *testing.T) {
	now := time.Now()
	fams := []uint8{unix.AF_INET}
	for name, c := range map[string]struct {
		mean, longest time.Duration
		rests         bool
	}{
		"all receives slow": {3 * time.Millisecond, 4 * time.Millisecond, true},
		"one slow, of many": {slowHold / 10, 4 * time.Millisecond, false},
		"quick":             {slowHold / 2, slowHold, false},
	} {
		p := scanned(Auto, 262144, 1000000, 100000, now)
		for range 3 {
			_, dumps := p.choose(fams, 262144, 1000000, now)
			tally := &tally{longest: c.longest, cpu: 1000 * c.mean, receives: 1000, flagged: true, udp: [2]uint64{100000}}
			p.learn(Filter, dumps, tally, 262144, 1000000, now)
		}
		s, _ := p.choose(fams, 262144, 1000000, now)
		if rests := s == Full; rests != c.rests {
			t.Errorf("%s: then %s", name, s)
		}
		p.at[0] = now.Add(filterBreak)
		if s, _ := p.choose(fams, 262144, 1000000, now.Add(filterBreak)); s != Filter {
			t.Errorf("%s: after the break %s", name, s)
		}
	}
}

// Entries of other namespaces are walked over too. They do not show in nf_conntrack_count, but in the time of a full scan.
func TestForeignEntriesShowInTheTime(t *testing.T) {
	now := time.Now()
	p := &planner{strategy: Auto}
	tl := &tally{entries: 1000, receives: 30, cpu: 300 * time.Millisecond}
	tl.all[0], tl.udp[0] = 1000, 100
	p.learn(Full, []dump{{family: unix.AF_UNSPEC}}, tl, 65536, 1000, now)
	if s, _ := p.choose([]uint8{unix.AF_INET}, 65536, 1000, now); s != Full {
		t.Errorf("%s, though a walk takes 0.3 s", s)
	}
}

// The first part of a large table tells whether the rest is better read through a filter.
func TestSampleTellsWhetherToFilter(t *testing.T) {
	now := time.Now()
	fams := []uint8{unix.AF_INET}
	for name, c := range map[string]struct {
		udp    uint64
		cpu    time.Duration
		before func(*planner)
		want   bool
	}{
		"many UDP": {500, 14 * time.Millisecond, func(*planner) {}, true},
		"few UDP":  {5, 14 * time.Millisecond, func(*planner) {}, false},
		"many, beside ten times as many of other namespaces": {500, 50 * time.Millisecond, func(*planner) {}, false},
		"a filter has proved slow":                           {500, 14 * time.Millisecond, func(p *planner) { p.breakUntil = now.Add(time.Second) }, false},
		"the kernel knows none":                              {500, 14 * time.Millisecond, func(p *planner) { p.noFilter = true }, false},
		"everything is asked for by name":                    {500, 14 * time.Millisecond, func(p *planner) { p.strategy = Full }, false},
	} {
		p := &planner{strategy: Auto}
		c.before(p)
		part := tally{entries: sampleSize, receives: 1 + sampleSize/entriesPerReceive, udp: [2]uint64{c.udp}, all: [2]uint64{sampleSize}, cpu: c.cpu}
		if got := p.sample(fams, part, 262144, 1000000, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if s, _ := p.choose(fams, 262144, 1000000, now); (s == Filter) != c.want {
			t.Errorf("%s: then %s", name, s)
		}
	}
}

// As libnetfilter_conntrack's filter sends it, on a little-endian machine.
func TestRequestBytes(t *testing.T) {
	got := appendRequest(nil, dump{family: unix.AF_INET, udp: true}, 7, 9)
	want := []byte{
		48, 0, 0, 0, 1, 1, 1, 3, 7, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0,
		16, 0, 1, 0x80, 12, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0,
		12, 0, 25, 0x80, 8, 0, 1, 0, 0x08, 0, 0, 0,
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}
