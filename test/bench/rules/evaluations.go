package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/test/lab/scrape"
)

// evaluations are what Prometheus says of its rule groups over a while.
type evaluations struct {
	seconds     map[string][]float64 // by group, each evaluation once
	first, last scrape.Metrics
	took        time.Duration // from first to last
}

// watch reads the server's metrics once a second.
func watch(ctx context.Context, s *server, d time.Duration) (*evaluations, error) {
	e := &evaluations{seconds: map[string][]float64{}}
	stamps := map[string]float64{}
	began := time.Now()
	for time.Since(began) < d {
		m, err := s.metrics(ctx)
		if err != nil {
			return nil, err
		}
		for series, v := range m {
			group, ok := strings.CutPrefix(series, "prometheus_rule_group_last_duration_seconds{rule_group=")
			if !ok {
				continue
			}
			stamp := m["prometheus_rule_group_last_evaluation_timestamp_seconds{rule_group="+group]
			if before, known := stamps[group]; known && stamp != before {
				e.seconds[group] = append(e.seconds[group], v)
			}
			stamps[group] = stamp
		}
		if e.first == nil {
			e.first = m
		}
		e.last, e.took = m, time.Since(began)
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// print writes a table.
func (e *evaluations) print(w io.Writer, nodes, failing int) {
	perSecond := func(counter string) float64 { return (sum(e.last, counter) - sum(e.first, counter)) / e.took.Seconds() }
	fmt.Fprintf(w, "%d nodes, %d of them failing: %.0f series in the head, %.0f samples and %.2f s of CPU time a second, %.1f GB resident\n\n",
		nodes, failing, e.last["prometheus_tsdb_head_series"], perSecond("prometheus_tsdb_head_samples_appended_total"),
		perSecond("process_cpu_seconds_total"), e.last["process_resident_memory_bytes"]/1e9)
	fmt.Fprintln(w, "| group | evaluations | median | longest |\n|---|---|---|---|")
	for _, group := range slices.Sorted(maps.Keys(e.seconds)) {
		s := e.seconds[group]
		fmt.Fprintf(w, "| %s | %d | %.0f ms | %.0f ms |\n", groupName(group), len(s), median(s)*1e3, slices.Max(s)*1e3)
	}
	fmt.Fprintln(w)
}

// check says which groups took too long, and whether any rule failed.
func (e *evaluations) check(limit time.Duration) error {
	for group, s := range e.seconds {
		if m := median(s); m > limit.Seconds() {
			return fmt.Errorf("%w: %s: %.2f s", errTooSlow, groupName(group), m)
		}
	}
	for series, v := range e.last {
		if strings.HasPrefix(series, "prometheus_rule_evaluation_failures_total{") && v > 0 {
			return fmt.Errorf("%s %g", series, v)
		}
	}
	return nil
}

// groupName is the name in the value of a rule_group label, which is FILE;NAME and ends in "}.
func groupName(label string) string {
	file, name, _ := strings.Cut(strings.Trim(label, `"}`), ";")
	return path.Base(file) + ": " + name
}

// sum of a metric, whatever its labels.
func sum(m scrape.Metrics, metric string) (total float64) {
	for series, v := range m {
		if name, _, _ := strings.Cut(series, "{"); name == metric {
			total += v
		}
	}
	return total
}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return s[len(s)/2]
}
