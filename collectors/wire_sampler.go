package collectors

import (
	"sync"
	"time"
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
	now   func() time.Time

	mu    sync.Mutex
	ratio float64
	last  time.Time // of the call before
	spare float64   // packets that may come at once: a token bucket
	start time.Time // of the window that count belongs to
	count float64
}

func newWireSampler(limit int, top float64, now func() time.Time) *wireSampler {
	s := &wireSampler{limit: float64(limit), top: top, ratio: top, now: now, start: now(), last: now()}
	s.spare = wireBurst * s.limit
	return s
}

// passed reports n packets that passed the filter of an interface within took, lost ones included, and returns the
// ratio to use from now on.
func (s *wireSampler) passed(n int, took time.Duration) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
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
