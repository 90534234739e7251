// Package flat tells whether what was measured again and again grows: a leak, as against noise, saws and a warm-up.
package flat

import (
	"fmt"
	"math"
	"slices"
)

// Sample is one measurement. At is when it was made, in any unit (seconds, work done): only its order and its proportions count.
type Sample struct{ At, Value float64 }

// Series are samples in the order of At.
type Series []Sample

// Limit says how much growth is none.
type Limit struct {
	Growth float64 // from the first sample judged to the last, in the unit of the values
	WarmUp float64 // part of the samples, from the first, that is not judged; 0 stands for a fifth
}

// Verdict is what Judge found.
type Verdict struct {
	Grows  bool
	Growth float64 // slope times the time that was judged
	Z      float64 // Mann-Kendall's statistic: how many standard deviations the trend is away from chance
	Judged int     // samples
	Limit  Limit
}

// minSamples is how many are judged at least: with fewer, the normal approximation of Mann-Kendall's statistic does not hold (Gilbert,
// Statistical Methods for Environmental Pollution Monitoring, 16.4.2).
const minSamples = 10

// significant is the one-sided 1 % quantile of the normal distribution.
const significant = 2.326

// Judge compares the slope of a series with a limit. The slope is Theil and Sen's, the median of the slopes between all pairs of
// samples: up to 29 % of the samples may be anything without moving it far. A series grows when that slope, over the time judged, is
// beyond the limit and Mann and Kendall's test calls the trend no chance (1 %). Too few samples to tell count as growth: a judge that
// has seen nothing must not say that all is well.
func (s Series) Judge(l Limit) Verdict {
	warmUp := l.WarmUp
	if warmUp == 0 {
		warmUp = 0.2
	}
	s = s[int(float64(len(s))*warmUp):]
	v := Verdict{Judged: len(s), Limit: l}
	if len(s) < minSamples {
		v.Grows = true
		return v
	}
	v.Growth = s.slope() * (s[len(s)-1].At - s[0].At)
	v.Z = s.trend()
	v.Grows = v.Growth > l.Growth && v.Z > significant
	return v
}

// String says it in one line.
func (v Verdict) String() string {
	if v.Judged < minSamples {
		return fmt.Sprintf("%d samples are too few to judge", v.Judged)
	}
	word := "flat"
	if v.Grows {
		word = "grows"
	}
	return fmt.Sprintf("%s: %+.6g over %d samples (z = %.1f), limit %g", word, v.Growth, v.Judged, v.Z, v.Limit.Growth)
}

// slope is Theil and Sen's estimate.
func (s Series) slope() float64 {
	slopes := make([]float64, 0, len(s)*(len(s)-1)/2)
	for i, a := range s {
		for _, b := range s[i+1:] {
			if b.At > a.At {
				slopes = append(slopes, (b.Value-a.Value)/(b.At-a.At))
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	slices.Sort(slopes)
	return slopes[len(slopes)/2]
}

// trend is Mann and Kendall's statistic, corrected for ties and continuity (Gilbert, 16.4.2).
func (s Series) trend() float64 {
	n := float64(len(s))
	sum := 0.0
	for i, a := range s {
		for _, b := range s[i+1:] {
			switch {
			case b.Value > a.Value:
				sum++
			case b.Value < a.Value:
				sum--
			}
		}
	}
	ties := map[float64]float64{}
	for _, a := range s {
		ties[a.Value]++
	}
	variance := n * (n - 1) * (2*n + 5)
	for _, t := range ties {
		variance -= t * (t - 1) * (2*t + 5)
	}
	if variance <= 0 || sum == 0 {
		return 0
	}
	return (sum - math.Copysign(1, sum)) / math.Sqrt(variance/18)
}
