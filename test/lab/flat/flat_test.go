package flat_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/flat"
)

const hour = 3600.0

// series measures f once every ten seconds for half an hour.
func series(f func(at float64) float64) flat.Series {
	var s flat.Series
	for at := 0.0; at < hour/2; at += 10 {
		s = append(s, flat.Sample{At: at, Value: f(at)})
	}
	return s
}

// The judge must find a small leak in noise, and must not take noise, saws, a warm-up or a few outliers for one.
func TestJudge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const mb, limit = 1e6, 0.5e6
	noise := func() float64 { return r.NormFloat64() * 0.2 * mb }
	for name, tt := range map[string]struct {
		f     func(at float64) float64
		grows bool
	}{
		"constant":                     {func(float64) float64 { return 15 * mb }, false},
		"noise":                        {func(float64) float64 { return 15*mb + noise() }, false},
		"saw":                          {func(at float64) float64 { return 15*mb + math.Mod(at, 95)*20e3 }, false},
		"warm-up":                      {func(at float64) float64 { return 15*mb - 4*mb*math.Exp(-at/60) + noise() }, false},
		"outliers":                     {func(at float64) float64 { return 15*mb + noise() + 50*mb*float64(int(at/10)%7/6) }, false},
		"shrinks":                      {func(at float64) float64 { return 15*mb - at*1000 + noise() }, false},
		"grows within the limit":       {func(at float64) float64 { return 15*mb + at/(hour/2)*0.2*mb + noise() }, false},
		"1 MB in half an hour":         {func(at float64) float64 { return 15*mb + at/(hour/2)*mb + noise() }, true},
		"1 MB in half an hour, in saw": {func(at float64) float64 { return 15*mb + at/(hour/2)*mb + math.Mod(at, 95)*20e3 }, true},
		"leak with outliers":           {func(at float64) float64 { return 15*mb + at/(hour/2)*2*mb + noise() - 10*mb*float64(int(at/10)%7/6) }, true},
		"steps":                        {func(at float64) float64 { return 15*mb + math.Floor(at/300)*0.5*mb }, true},
	} {
		if v := series(tt.f).Judge(flat.Limit{Growth: limit}); v.Grows != tt.grows {
			t.Errorf("%s: %s, want growth %t", name, v, tt.grows)
		}
	}
	// Of things that are counted, one more each five minutes.
	if v := series(func(at float64) float64 { return 20 + math.Floor(at/300) }).Judge(flat.Limit{Growth: 2}); !v.Grows {
		t.Errorf("a goroutine every five minutes: %s", v)
	}
	if v := series(func(at float64) float64 { return 20 + float64(int(at/10)%3) }).Judge(flat.Limit{Growth: 2}); v.Grows {
		t.Errorf("goroutines that come and go: %s", v)
	}
}

// Who has seen nothing must not say that all is well.
func TestTooFewSamples(t *testing.T) {
	for _, n := range []int{0, 1, 5, 11} {
		v := series(func(float64) float64 { return 1 })[:n].Judge(flat.Limit{Growth: 1})
		if !v.Grows || !strings.Contains(v.String(), "too few") {
			t.Errorf("%d samples: %s", n, v)
		}
	}
}
