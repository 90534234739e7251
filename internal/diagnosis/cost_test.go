//go:build load

package diagnosis

import (
	"testing"
	"time"
)

// TestJudgeCost: the time to judge is proportional to the length of the lists. Eight times the length would take 64
// times as long otherwise.
func TestJudgeCost(t *testing.T) {
	took := func(many int) time.Duration {
		n, best := longLists(many), time.Hour
		n.Earlier = new(*n)
		for range 5 {
			start := time.Now()
			Judge(n)
			best = min(best, time.Since(start))
		}
		return best
	}
	if short, long := took(2500), took(20000); long > 30*short {
		t.Errorf("%v for 2,500 of each, %v for 20,000", short, long)
	}
}
