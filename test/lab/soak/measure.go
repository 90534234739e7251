package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vxlan_exporter/test/lab/flat"
	"vxlan_exporter/test/lab/scrape"
)

// measured are what may not grow, with the growth that is none. RSS has pages in it that come and go with the page cache and the
// collector's pacing; the heap is what survived the last collection (the size at which the next one comes, less GOGC's half), which is
// steady to a few kilobytes.
func measured() []quantity {
	return []quantity{
		{"resident memory", 1 << 20, func(e *scrape.Exporter, _ scrape.Metrics) (float64, error) { return number(e.Resident()) }},
		{"heap", 192 << 10, func(_ *scrape.Exporter, m scrape.Metrics) (float64, error) {
			return m["go_memstats_next_gc_bytes"] / 1.5, nil
		}},
		{"goroutines", 2, func(_ *scrape.Exporter, m scrape.Metrics) (float64, error) { return m["go_goroutines"], nil }},
		{"open files", 2, func(e *scrape.Exporter, _ scrape.Metrics) (float64, error) { return number(e.OpenFiles()) }},
		{"threads", 2, func(_ *scrape.Exporter, m scrape.Metrics) (float64, error) { return m["go_threads"], nil }},
	}
}

type quantity struct {
	name   string
	growth float64 // limit
	read   func(*scrape.Exporter, scrape.Metrics) (float64, error)
}

func number(n int, err error) (float64, error) { return float64(n), err }

// seen are the measurements.
type seen struct {
	series map[string]flat.Series
	last   scrape.Metrics
}

// measure measures at intervals until ctx ends.
func measure(ctx context.Context, e *scrape.Exporter, interval time.Duration) (*seen, error) {
	s := &seen{series: map[string]flat.Series{}}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return s, nil
			}
			return s, ctx.Err()
		case <-ticker.C:
		}
		m, err := e.Scrape(context.WithoutCancel(ctx))
		if err != nil {
			return s, err
		}
		s.last = m
		for _, q := range measured() {
			v, err := q.read(e, m)
			if err != nil {
				return s, fmt.Errorf("%s: %w", q.name, err)
			}
			s.series[q.name] = append(s.series[q.name], v)
		}
	}
}

// judge prints a line for each quantity and names those that grow.
func (s *seen) judge(out io.Writer) error {
	var errs []error
	for _, q := range measured() {
		series := s.series[q.name]
		if len(series) > 0 {
			fmt.Fprintf(out, "%-16s %12.0f at first, %12.0f at the end\n", q.name, series[0], series[len(series)-1])
		}
		if err := series.Judge(q.growth); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", q.name, err))
		}
	}
	return errors.Join(errs...)
}
