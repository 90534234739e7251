package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"vxlan_exporter/grafana"
)

// shownNode is the node of the node's dashboard: the first that fails.
const shownNode = 0

var (
	errRefresh = errors.New("a refresh of a dashboard took too long")
	errSeries  = errors.New("a panel gets too many series")
)

// asked is a query, and what its answers came to.
type asked struct {
	where   string
	seconds float64 // median
	series  int
	bytes   int
}

// look refreshes all dashboards as somebody does who looks at them, and prints what that costs. Queries go one after the other; on an idle
// machine their times add up to the time of one core.
func look(ctx context.Context, o options, s *server, failing int) error {
	all, err := grafana.Load(o.dashboards)
	if err != nil {
		return err
	}
	usual, err := s.cpu(ctx, func() error { return pause(ctx, 20*time.Second) })
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		for _, span := range o.shown {
			chosen := []string{instance(shownNode)}
			if d.UID == "vxlan-fleet" {
				chosen = []string{"", instance(shownNode)}
			}
			for _, one := range chosen {
				view := grafana.View{Span: span, Scrape: 15 * time.Second, Instance: one}
				var answers []asked
				used, err := s.cpu(ctx, func() (err error) {
					answers, err = refresh(ctx, s, d, view, o.repeat)
					return err
				})
				if err != nil {
					return err
				}
				cpu := (used.seconds - usual.seconds/usual.took.Seconds()*used.took.Seconds()) / float64(o.repeat)
				errs = append(errs, report(os.Stdout, o, d, view, failing, answers, cpu))
			}
		}
	}
	return errors.Join(errs...)
}

// cpuTime is what the server used, and in how long.
type cpuTime struct {
	seconds float64
	took    time.Duration
}

// cpu says how much CPU time the server used while something was done.
func (s *server) cpu(ctx context.Context, do func() error) (cpuTime, error) {
	before, err := s.metrics(ctx)
	if err != nil {
		return cpuTime{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return cpuTime{}, err
	}
	took := time.Since(began)
	after, err := s.metrics(ctx)
	const metric = "process_cpu_seconds_total"
	return cpuTime{after[metric] - before[metric], took}, err
}

// refresh asks every query of a dashboard some times, those of its variables included.
func refresh(ctx context.Context, s *server, d grafana.Dashboard, v grafana.View, repeat int) ([]asked, error) {
	type request struct {
		where, path string
		values      func(now time.Time) url.Values
	}
	seconds := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	var requests []request
	for _, q := range d.Queries() {
		expr, step := v.Fill(q)
		if q.Over {
			requests = append(requests, request{q.Where, "query_range", func(now time.Time) url.Values {
				now = now.Truncate(step) // as Grafana aligns them
				return url.Values{"query": {expr}, "start": {seconds(now.Add(-v.Span))}, "end": {seconds(now)}, "step": {step.String()}}
			}})
		} else {
			requests = append(requests, request{q.Where, "query", func(now time.Time) url.Values {
				return url.Values{"query": {expr}, "time": {seconds(now)}}
			}})
		}
	}
	labels := d.Labels()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		series, _ := v.Fill(grafana.Query{Expr: labels[name].Series, Points: 1})
		requests = append(requests, request{d.UID + ": variable " + name, "label/" + labels[name].Label + "/values", func(now time.Time) url.Values {
			return url.Values{"match[]": {series}, "start": {seconds(now.Add(-v.Span))}, "end": {seconds(now)}}
		}})
	}
	var all []asked
	for _, r := range requests {
		a := asked{where: r.where}
		var took []float64
		for range repeat {
			began := time.Now()
			body, err := s.get(ctx, "/api/v1/"+r.path+"?"+r.values(began).Encode())
			took = append(took, time.Since(began).Seconds())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.where, err)
			}
			if a.series, err = count(body); err != nil {
				return nil, fmt.Errorf("%s: %w", r.where, err)
			}
			a.bytes = len(body)
		}
		a.seconds = median(took)
		all = append(all, a)
	}
	return all, nil
}

// count is how many series, rows or values an answer has.
func count(body []byte) (int, error) {
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, errors.New(answer.Error)
	}
	var data struct{ Result []json.RawMessage }
	if err := json.Unmarshal(answer.Data, &data); err == nil {
		return len(data.Result), nil
	}
	var values []string
	err := json.Unmarshal(answer.Data, &values)
	return len(values), err
}

// report prints the slowest queries and the sum of all, and says what is too much. The CPU time is without what the server used all the
// time: on a busy machine it is what there is to compare.
func report(w io.Writer, o options, d grafana.Dashboard, v grafana.View, failing int, answers []asked, cpu float64) error {
	var total float64
	var bytes int
	var errs []error
	for _, a := range answers {
		total += a.seconds
		bytes += a.bytes
		if variable := d.UID + ": variable"; a.series > o.seriesLimit && a.where[:min(len(a.where), len(variable))] != variable {
			errs = append(errs, fmt.Errorf("%w: %s: %d", errSeries, a.where, a.series))
		}
	}
	if v.Span <= o.past && cpu > o.refreshLimit.Seconds() {
		errs = append(errs, fmt.Errorf("%w: %s, %v: %.1f s of CPU time", errRefresh, d.UID, v.Span, cpu))
	}
	node := "all"
	if v.Instance != "" {
		node = v.Instance
	}
	fmt.Fprintf(w, "%s, node %s, %v shown, %d of %d nodes failing: one refresh is %d queries, %d KB, %.2f s of CPU time, %.2f s one after the other\n\n",
		d.UID, node, v.Span, failing, o.nodes, len(answers), bytes/1000, cpu, total)
	slices.SortFunc(answers, func(a, b asked) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintln(w, "| query | median | series | KB |\n|---|---|---|---|")
	for _, a := range answers[:min(len(answers), o.slowest)] {
		fmt.Fprintf(w, "| %s | %.0f ms | %d | %d |\n", a.where, a.seconds*1e3, a.series, a.bytes/1000)
	}
	fmt.Fprintln(w)
	return errors.Join(errs...)
}

// get asks the server for a path.
func (s *server) get(ctx context.Context, path string) ([]byte, error) {
	select {
	case err := <-s.exited:
		s.exited <- err
		return nil, fmt.Errorf("prometheus ended: %w", err)
	default:
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}
