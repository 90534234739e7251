package collectors

import (
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/procnet"
)

const (
	// wireHeadroom is the part of the limit that the sampling ratio aims at, so that the usual ups and downs stay below
	// the limit.
	wireHeadroom = 0.6
	// wireBurst is how many seconds' worth of the limit may come at once.
	wireBurst = 0.25
	// wireRise bounds how much the ratio rises at a time: the rate that it is derived from may be that of a pause.
	wireRise = 4
	// wireMinRatio is below what 100 million packets per second and a limit of 10 need.
	wireMinRatio = 1e-8
	wireWindow   = time.Second
)

// wireSampler finds the sampling ratio at which no more than a limit of packets per second is handed over, all
// interfaces together.
type wireSampler struct {
	limit float64 // packets per second
	top   float64 // the ratio never exceeds it

	mu    sync.Mutex
	ratio float64
	last  time.Time // of the call before
	spare float64   // packets that may come at once: a token bucket
	start time.Time // of the window that count belongs to
	count float64
}

func newWireSampler(limit int, top float64, now time.Time) *wireSampler {
	l := float64(limit)
	return &wireSampler{limit: l, top: top, ratio: top, start: now, last: now, spare: wireBurst * l}
}

// passed reports n packets that passed the filter of an interface within took, lost ones included, and returns the
// ratio to use from now on.
func (s *wireSampler) passed(now time.Time, n int, took time.Duration) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = min(s.spare+s.limit*max(now.Sub(s.last).Seconds(), 0), wireBurst*s.limit) - float64(n)
	s.last = now
	s.count += float64(n)
	elapsed := now.Sub(s.start)
	switch {
	case s.spare < 0:
		rate := max(float64(n)/max(took, time.Millisecond).Seconds(), s.limit)
		s.ratio = max(s.ratio*wireHeadroom*s.limit/rate, wireMinRatio)
		s.spare = wireBurst * s.limit
		s.start, s.count = now, 0
	case elapsed >= wireWindow || elapsed < 0:
		if rate := s.count / wireWindow.Seconds(); rate < s.limit*wireHeadroom/2 {
			rise := float64(wireRise)
			if rate > 0 {
				rise = min(rise, wireHeadroom*s.limit/rate)
			}
			s.ratio = min(s.ratio*rise, s.top)
		}
		s.start, s.count = now, 0
	}
	return s.ratio
}

// current is the ratio to use.
func (s *wireSampler) current() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ratio
}

const (
	// wireAlert is for how long everything is captured after a bad packet: the SYNs of a stalled connection are at most
	// 32 s apart.
	wireAlert = time.Minute
	// wireDoubt is the same after a UDP checksum error of the node, which may be any datagram's, and for how long such
	// errors count while no bad VXLAN packet is found. wireIgnore is for how long they are ignored after that.
	wireDoubt  = 40 * time.Second
	wireIgnore = 10 * time.Minute
	// wirePoll is how often the counters are read, wireStale when what they said before is too old to compare with.
	wirePoll  = 500 * time.Millisecond
	wireStale = 5 * time.Second
)

// wireSuspicion says when a busy NIC is to be captured on all the time, because a failure may be under way. All watches
// share it.
type wireSuspicion struct {
	errors func() (uint64, error) // UDP datagrams dropped for a bad checksum

	mu     sync.Mutex
	until  time.Time
	doubts time.Time // when the errors began that no bad packet explains yet; zero: there are none
	ignore time.Time // until when errors are ignored
	polled time.Time
	before uint64
}

// bad reports a bad packet.
func (s *wireSuspicion) bad(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.doubts, s.ignore = now.Add(wireAlert), time.Time{}, time.Time{}
}

// suspected reports whether a failure may be under way.
func (s *wireSuspicion) suspected(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.polled) >= wirePoll {
		s.poll(now)
	}
	return now.Before(s.until)
}

func (s *wireSuspicion) poll(now time.Time) {
	n, err := s.errors()
	if err != nil {
		return // the host collector says so
	}
	rose := n > s.before && now.Sub(s.polled) < wireStale
	s.before, s.polled = n, now
	if !rose || now.Before(s.ignore) {
		return
	}
	if s.doubts.IsZero() || !now.Before(s.until) {
		s.doubts = now
	}
	if now.Sub(s.doubts) > wireDoubt {
		s.ignore = now.Add(wireIgnore)
		return
	}
	if until := now.Add(wireDoubt); until.After(s.until) {
		s.until = until
	}
}

// udpChecksumErrors sums InCsumErrors of both address families.
func udpChecksumErrors(proc string) (uint64, error) {
	snmp, err := procnet.ReadSNMP(proc)
	if err != nil {
		return 0, err
	}
	sum, _ := csumErrors(snmp.UDP4, snmp.UDP6)
	return sum, nil
}
