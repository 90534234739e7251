package flat_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/flat"
)

// The judge must find a small leak in noise, and must not take noise, saws, a warm-up or a few outliers for one.
func TestJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n, mb, limit = 180, 1e6, 0.5e6
	noise := func() float64 { return r.NormFloat64() * 0.1 * mb }
	for name, tt := range map[string]struct {
		f     func(i float64) float64 // after i pieces of work
		grows bool
	}{
		"constant":               {func(float64) float64 { return 15 * mb }, false},
		"noise":                  {func(float64) float64 { return 15*mb + noise() }, false},
		"saw":                    {func(i float64) float64 { return 15*mb + math.Mod(i, 9.5)*200e3 }, false},
		"warm-up":                {func(i float64) float64 { return 15*mb - 4*mb*math.Exp(-i/6) + noise() }, false},
		"outliers":               {func(i float64) float64 { return 15*mb + noise() + 50*mb*float64(int(i)%7/6) }, false},
		"one step":               {func(i float64) float64 { return 15*mb + 2*mb*math.Floor(i/100) }, false},
		"growth below the limit": {func(i float64) float64 { return 15*mb + 0.8*limit*i/n }, false},
		"leak":                   {func(i float64) float64 { return 15*mb + 2*mb*i/n + noise() }, true},
		"leak in a saw":          {func(i float64) float64 { return 15*mb + 2*mb*i/n + math.Mod(i, 9.5)*200e3 }, true},
		"leak beside outliers":   {func(i float64) float64 { return 15*mb + 2*mb*i/n + 50*mb*float64(int(i)%7/6) }, true},
	} {
		var s flat.Series
		for i := range n {
			s = append(s, tt.f(float64(i)))
		}
		if err := s.Judge(limit); (err != nil) != tt.grows {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []flat.Series{nil, make(flat.Series, 11)} {
		if err := s.Judge(1); err == nil || !strings.Contains(err.Error(), "too few") {
			t.Errorf("%d samples: %v", len(s), err)
		}
	}
}
