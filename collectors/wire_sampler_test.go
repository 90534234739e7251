package collectors

import (
	"math/rand/v2"
	"testing"
	"time"
)

// flood drives a sampler with rate packets per second for d, in reads 50 ms apart, and returns how many reached it per
// second in the second half.
func flood(s *wireSampler, clock *time.Time, rate float64, d time.Duration) float64 {
	const step = 50 * time.Millisecond
	rnd := rand.New(rand.NewPCG(3, 4))
	var reached, part float64
	for t := time.Duration(0); t < d; t += step {
		*clock = clock.Add(step)
		n := rate * step.Seconds() * s.current() * (0.8 + 0.4*rnd.Float64())
		whole := int(n + part)
		part += n - float64(whole)
		if t >= d/2 {
			reached += float64(whole)
		}
		s.passed(*clock, whole, step)
	}
	return reached / (d / 2).Seconds()
}

func TestWireSampler(t *testing.T) {
	for _, limit := range []int{10, 1000, 100000} {
		for _, rate := range []float64{1, 100, 900, 1100, 5000, 1e5, 1e6, 1e8} {
			clock := time.Unix(1000, 0)
			s := newWireSampler(limit, 1, clock)
			reached := flood(s, &clock, rate, 30*time.Second)
			if reached > float64(limit) {
				t.Errorf("limit %d, %v packets/s: %v a second reach us", limit, rate, reached)
			}
			if rate < float64(limit)*0.8 && s.current() != 1 {
				t.Errorf("limit %d, %v packets/s: ratio %v without need", limit, rate, s.current())
			}
			if rate > float64(limit) && reached < float64(limit)*0.15 {
				t.Errorf("limit %d, %v packets/s: only %v a second reach us", limit, rate, reached)
			}
		}
	}
}

// TestWireSamplerRecovers: after a flood the ratio comes back to the top, also when nothing at all arrives.
func TestWireSamplerRecovers(t *testing.T) {
	for _, rate := range []float64{0, 10} {
		clock := time.Unix(1000, 0)
		s := newWireSampler(1000, 0.5, clock)
		flood(s, &clock, 1e6, 5*time.Second)
		if s.current() > 0.01 {
			t.Fatalf("ratio %v in the flood", s.current())
		}
		flood(s, &clock, rate, 15*time.Second)
		if s.current() != 0.5 {
			t.Errorf("%v packets/s: ratio %v after the flood, want 0.5", rate, s.current())
		}
	}
}

// TestWireSamplerIdle: a long silence saves up no more than the burst.
func TestWireSamplerIdle(t *testing.T) {
	clock := time.Unix(1000, 0)
	s := newWireSampler(1000, 1, clock)
	clock = clock.Add(time.Hour)
	if r := s.passed(clock, 5000, 50*time.Millisecond); r > 0.01 {
		t.Errorf("ratio %v after 5000 packets in 50 ms", r)
	}
	// A clock set back raises nothing and breaks nothing.
	before := s.current()
	clock = clock.Add(-24 * time.Hour)
	if r := s.passed(clock, 0, 0); r <= 0 || r > 4*before {
		t.Errorf("ratio %v after the clock went back, before %v", r, before)
	}
}
