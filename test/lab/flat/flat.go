// Package flat tells a leak from noise, saws and a warm-up: what is lost with every piece of work still grows when the
// work is made four times longer.
package flat

import (
	"fmt"
	"slices"
)

// Series are measurements of one quantity, made after equal pieces of work.
type Series []float64

// minSamples is how many a quarter has at least: its lowest value must be one without noise.
const minSamples = 3

// Judge fails where the lowest value rises from each quarter of the work to the next by more than a quarter of the
// limit. A warm-up rises only at first, noise and saws have the same lows in each. Too few samples fail too: who has
// seen nothing must not say that all is well.
func (s Series) Judge(limit float64) error {
	quarter := len(s) / 4
	if quarter < minSamples {
		return fmt.Errorf("%d samples are too few to judge", len(s))
	}
	var lows [4]float64
	for i := range lows {
		lows[i] = slices.Min(s[i*quarter:][:quarter])
	}
	for i, low := range lows[1:] {
		if low-lows[i] <= limit/4 {
			return nil
		}
	}
	return fmt.Errorf("grows: the lowest value in each quarter of the work is %.0f, which is more than %.0f in all",
		lows, limit)
}
