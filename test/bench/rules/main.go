// Command rules measures what the rules, and the queries of the dashboards, cost in a real Prometheus that scrapes thousands of nodes,
// healthy and failing. The nodes are one HTTP server on the loopback.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

type options struct {
	nodes                       int
	failing                     []int
	rules, prometheus, promtool string
	history, warm, settle, look time.Duration
	limit                       time.Duration

	dashboards         string
	shown              []time.Duration
	past, refreshLimit time.Duration
	repeat, slowest    int
	seriesLimit        int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rules:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

func parse(args []string) (options, error) {
	var o options
	app := kingpin.New("rules", "What the rules cost in a Prometheus that scrapes many nodes. Prints Markdown tables.")
	app.HelpFlag.Short('h')
	app.UsageWriter(os.Stdout)
	app.Flag("nodes", "Nodes in the fleet.").Default("5000").IntVar(&o.nodes)
	app.Flag("failing", "Nodes that fail, in each scenario. Repeatable; none, one, a twentieth and all when not given.").IntsVar(&o.failing)
	app.Flag("rules", "Folder of the rule files.").Default("prometheus/rules").StringVar(&o.rules)
	app.Flag("prometheus", "Prometheus server.").Default(".cache/bin/prometheus").StringVar(&o.prometheus)
	app.Flag("promtool", "Its promtool.").Default(".cache/bin/promtool").StringVar(&o.promtool)
	app.Flag("history", "History made beforehand, for the rules that look far back.").Default("6h5m").DurationVar(&o.history)
	app.Flag("warm", "Time until all windows are full.").Default("5m30s").DurationVar(&o.warm)
	app.Flag("settle", "Time after nodes began to fail.").Default("2m15s").DurationVar(&o.settle)
	app.Flag("look", "Time that evaluations are watched in each scenario; 0: not at all.").Default("75s").DurationVar(&o.look)
	app.Flag("limit", "Longest median evaluation of a group that is no error.").Default("1s").DurationVar(&o.limit)
	app.Flag("dashboards", "Folder of dashboards, whose queries are run in each scenario as Grafana sends them. Not measured when empty.").StringVar(&o.dashboards)
	app.Flag("past", "Scrapes made beforehand for the dashboards.").Default("1h").DurationVar(&o.past)
	app.Flag("shown", "Time that dashboards show; of more than --past there is only that. Repeatable.").Default("1h").DurationListVar(&o.shown)
	app.Flag("repeat", "Times that each query of a dashboard is run.").Default("3").IntVar(&o.repeat)
	app.Flag("slowest", "Queries printed for each dashboard.").Default("10").IntVar(&o.slowest)
	app.Flag("refresh-limit", "Most CPU time for a refresh of a dashboard that is no error.").Default("10s").DurationVar(&o.refreshLimit)
	app.Flag("series-limit", "Most series or rows of a query that are no error.").Default("200").IntVar(&o.seriesLimit)
	_, err := app.Parse(args)
	if len(o.failing) == 0 {
		o.failing = []int{0, 1, o.nodes / 20, o.nodes}
	}
	return o, err
}

var errTooSlow = errors.New("a rule group took too long")

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return fmt.Errorf("%w (try --help)", err)
	}
	folder, err := os.MkdirTemp("", "vxlan-scale-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()

	f := &fleet{nodes: o.nodes, started: time.Now()}
	if o.dashboards != "" {
		f.started = f.started.Add(-o.past).Truncate(time.Second)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	nodes := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = nodes.Serve(l) }() // ends with Close
	defer func() { _ = nodes.Close() }()

	s, err := startServer(ctx, o, f, l.Addr().String(), folder)
	if err != nil {
		return err
	}
	err = measure(ctx, o, f, s)
	if err != nil && !errors.Is(err, errTooSlow) && !errors.Is(err, errRefresh) && !errors.Is(err, errSeries) {
		if log, readErr := os.ReadFile(folder + "/prometheus.log"); readErr == nil {
			fmt.Fprintf(os.Stderr, "%s", log[max(0, len(log)-4096):])
		}
	}
	return errors.Join(err, s.stop())
}

// measure goes through the scenarios.
func measure(ctx context.Context, o options, f *fleet, s *server) error {
	if err := pause(ctx, o.warm); err != nil {
		return err
	}
	var errs []error
	for _, failing := range o.failing {
		f.failing.Store(int64(failing))
		if failing > 0 {
			if err := pause(ctx, o.settle); err != nil {
				return errors.Join(append(errs, err)...)
			}
		}
		if o.look > 0 {
			seen, err := watch(ctx, s, o.look)
			if err != nil {
				return errors.Join(append(errs, err)...)
			}
			seen.print(os.Stdout, o.nodes, failing)
			errs = append(errs, seen.check(o.limit))
		}
		if o.dashboards != "" {
			errs = append(errs, look(ctx, o, s, failing))
		}
	}
	return errors.Join(errs...)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
