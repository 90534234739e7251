package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
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
	where  string
	cpu    time.Duration // of the server, on average
	took   float64       // seconds, median
	series int
	bytes  int
}

// look refreshes all dashboards as somebody does who looks at them, and prints what that costs a server that does nothing else.
func look(ctx context.Context, o options, s *server, failing int) (err error) {
	all, err := grafana.Load(o.dashboards)
	if err != nil {
		return err
	}
	idle, err := s.copied(ctx, o.prometheus)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, idle.end()) }()
	var errs []error
	for _, d := range all {
		for _, span := range o.shown {
			chosen := []string{instance(shownNode)}
			if d.UID == "vxlan-fleet" {
				chosen = []string{"", instance(shownNode)}
			}
			for _, one := range chosen {
				view := grafana.View{Span: span, Scrape: 15 * time.Second, Instance: one}
				answers, err := refresh(ctx, idle, d, view, o.repeat)
				if err != nil {
					return err
				}
				errs = append(errs, report(os.Stdout, o, d, view, failing, answers))
			}
		}
	}
	return errors.Join(errs...)
}

// refresh asks every query of a dashboard some times, those of its variables included.
func refresh(ctx context.Context, s *copied, d grafana.Dashboard, v grafana.View, repeat int) ([]asked, error) {
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
		before, err := s.cpu()
		if err != nil {
			return nil, err
		}
		for range repeat {
			began := time.Now()
			body, err := s.get(ctx, "/api/v1/"+r.path+"?"+r.values(s.at).Encode())
			took = append(took, time.Since(began).Seconds())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.where, err)
			}
			if a.series, err = count(body); err != nil {
				return nil, fmt.Errorf("%s: %w", r.where, err)
			}
			a.bytes = len(body)
		}
		after, err := s.cpu()
		if err != nil {
			return nil, err
		}
		a.cpu, a.took = (after-before)/time.Duration(repeat), median(took)
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

// report prints the dearest queries and the sum of all, and says what is too much. It judges CPU time: on a busy machine the rest is
// others' doing.
func report(w io.Writer, o options, d grafana.Dashboard, v grafana.View, failing int, answers []asked) error {
	var took float64
	var cpu time.Duration
	var bytes int
	var errs []error
	for _, a := range answers {
		cpu, took, bytes = cpu+a.cpu, took+a.took, bytes+a.bytes
		if a.series > o.seriesLimit && !strings.HasPrefix(a.where, d.UID+": variable") {
			errs = append(errs, fmt.Errorf("%w: %s: %d", errSeries, a.where, a.series))
		}
	}
	if v.Span <= o.past && cpu > o.refreshLimit {
		errs = append(errs, fmt.Errorf("%w: %s, %v: %.1f s of CPU time", errRefresh, d.UID, v.Span, cpu.Seconds()))
	}
	node := "all"
	if v.Instance != "" {
		node = v.Instance
	}
	fmt.Fprintf(w, "%s, node %s, %v shown, %d of %d nodes failing: one refresh is %d queries, %d KB, %.2f s of CPU time, %.2f s one after the other\n\n",
		d.UID, node, v.Span, failing, o.nodes, len(answers), bytes/1000, cpu.Seconds(), took)
	slices.SortFunc(answers, func(a, b asked) int { return cmp.Compare(b.cpu, a.cpu) })
	fmt.Fprintln(w, "| query | CPU time | median | series | KB |\n|---|---|---|---|---|")
	for _, a := range answers[:min(len(answers), o.slowest)] {
		fmt.Fprintf(w, "| %s | %d ms | %.0f ms | %d | %d |\n", a.where, a.cpu.Milliseconds(), a.took*1e3, a.series, a.bytes/1000)
	}
	fmt.Fprintln(w)
	return errors.Join(errs...)
}
