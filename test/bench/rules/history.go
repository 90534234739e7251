package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"vxlan_exporter/grafana"
)

// backfill makes the history that rules and dashboards look back at, which nobody wants to wait for, and puts it where the server will
// find it.
func backfill(ctx context.Context, o options, f *fleet, folder, data string) error {
	name := filepath.Join(folder, "history.txt")
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	now := time.Now().Truncate(time.Minute)
	usual(w, o, now)
	err = scrapes(w, o, f, now)
	fmt.Fprintln(w, "# EOF")
	if err := errors.Join(err, w.Flush(), file.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, o.promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", name, data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("promtool tsdb create-blocks-from: %w: %s", err, out)
	}
	return os.Remove(name)
}

// usual are the 6 hours that the usual rate of invalid packets is averaged over, a sample for each evaluation of its group.
func usual(w io.Writer, o options, now time.Time) {
	const metric = "instance:vxlan_host_conntrack_invalid:increase2m"
	fmt.Fprintf(w, "# TYPE %s gauge\n", metric)
	for node := range o.nodes {
		for at := now.Add(-o.history); at.Before(now); at = at.Add(2 * time.Minute) {
			fmt.Fprintf(w, "%s{instance=%q,job=\"vxlan\"} %d %d\n", metric, instance(node), node%3*2, at.Unix())
		}
	}
}

// scrapes are what a healthy fleet would have said since it started, of the metrics that a dashboard looks back at: the fleet's dashboard
// of all nodes, the node's of the shown one.
func scrapes(w io.Writer, o options, f *fleet, now time.Time) error {
	if o.dashboards == "" {
		return nil
	}
	all, err := grafana.Load(o.dashboards)
	if err != nil {
		return err
	}
	everywhere, shown := map[string]bool{}, map[string]bool{}
	for _, d := range all {
		for _, q := range d.Queries() {
			if !q.Over && !strings.Contains(q.Expr, "$__range") {
				continue
			}
			for _, metric := range exported.FindAllString(q.Expr, -1) {
				shown[metric] = true
				if d.UID == "vxlan-fleet" {
					everywhere[metric] = true
				}
			}
		}
	}
	for node := range o.nodes {
		metrics := everywhere
		if node == shownNode {
			metrics = shown
		}
		f.past(w, node, metrics, now)
	}
	return nil
}

var exported = regexp.MustCompile(`\b(vxlan|process)_\w+`)

// past writes what a node said every 15 s until now, of some metrics.
func (f *fleet) past(w io.Writer, node int, metrics map[string]bool, now time.Time) {
	type line struct{ before, series, value string }
	var lines []line
	for text := range strings.Lines(nodeText) {
		series, value := sample(text)
		name, labels, _ := strings.Cut(series, "{")
		if !metrics[name] {
			continue
		}
		if labels == "" {
			labels = "}"
		} else {
			labels = "," + labels
		}
		labels = strings.Replace(labels, nodeAddress, address(node), 1)
		lines = append(lines, line{fmt.Sprintf("%s{instance=%q,job=\"vxlan\"%s ", name, instance(node), labels), series, value})
	}
	for at := f.started; at.Before(now); at = at.Add(15 * time.Second) {
		values := f.values(node, at.Sub(f.started))
		for _, l := range lines {
			value := l.value
			if v, ok := values[l.series]; ok {
				value = fmt.Sprint(v)
			}
			fmt.Fprintf(w, "%s%s %d\n", l.before, value, at.Unix())
		}
	}
}
