package collectors

import (
	"sync"
	"time"
)

const (
	// wireHeadroom is the part of the limit that the sampling ratio aims at, so that the usual ups and downs stay below the limit.
	wireHeadroom = 0.8
	// wireBurst is the part of a second's limit that may come at once.
	wireBurst = 0.1
	// wireRise bounds how much the ratio rises at a time: the rate that it is derived from may be that of a pause.
	wireRise = 4
	// wireMinRatio is below what 100 million packets per second and a limit of 100 need.
	wireMinRatio = 1e-6
	wireWindow   = time.Second
)

// wireSampler finds the sampling ratio at which no more than a limit of packets per second is handed over, all interfaces together.
type wireSampler struct {
	limit float64 // packets per second
	top   float64 // the ratio never exceeds it
	now   func() time.Time

	mu    sync.Mutex
	ratio float64
	start time.Time // of the window that count belongs to
	count float64   // packets that passed the filter, lost ones included
}

func newWireSampler(limit int, top float64, now func() time.Time) *wireSampler {
	return &wireSampler{limit: float64(limit), top: top, ratio: top, now: now, start: now()}
}

// passed reports n packets that passed the filter and returns the ratio to use from now on.
func (s *wireSampler) passed(n int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.count += float64(n)
	elapsed := max(now.Sub(s.start).Seconds(), 0)
	switch {
	case s.count > s.limit*(elapsed+wireBurst):
		// A window that has only just begun says little: what comes at once may be all there is.
		s.ratio = max(s.ratio*wireHeadroom*s.limit/(s.count/max(elapsed, wireBurst)), wireMinRatio)
		s.start, s.count = now, 0
	case elapsed >= wireWindow.Seconds():
		if rate := s.count / elapsed; rate < s.limit*wireHeadroom/2 {
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
