package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	"golang.org/x/sys/unix"

	"vxlan_exporter/exporter"
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/report"
)

// observeTimeout bounds one observation of the check command.
const observeTimeout = 20 * time.Second

type checkConfig struct {
	output   string
	interval time.Duration
	from     string
	probe    bool
	path     probeConfig
}

func addCheck(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("check", "Report what is wrong on this node, why, and the commands that remedy it. "+
		"Exit status, as of plugins of Nagios: 0 healthy, 1 exposed, 2 failing now, 3 could not tell.")
	c := &checkConfig{}
	cmd.Flag("output", "text for a person, json to judge elsewhere (see --from), nagios for a plugin's one line with "+
		"performance data.").
		Default("text").EnumVar(&c.output, "text", "json", "nagios")
	cmd.Flag("interval", "Interval between two observations; 0s makes one, without rates.").Default("5s").
		DurationVar(&c.interval)
	cmd.Flag("from", "Judge an observation saved with --output=json instead of this node; - for standard input.").
		PlaceHolder("FILE").StringVar(&c.from)
	cmd.Flag("probe", "Ask the path to other nodes as well, which sends a few small packets (see the command probe).").
		BoolVar(&c.probe)
	c.path.addFlags(cmd)
	commands[cmd.FullCommand()] = func(ctx context.Context, _ *slog.Logger) (int, error) { return check(ctx, c, s) }
}

// check prints the report and returns the exit status that its verdict stands for. An error on the way is "could not
// tell".
func check(ctx context.Context, c *checkConfig, s *sources) (int, error) {
	n, err := c.observe(ctx, s)
	if err != nil {
		if c.output == "nagios" { // which shows standard output alone
			_ = report.NagiosError(os.Stdout, err) // the error itself is told below
		}
		return diagnosis.Unknown.ExitStatus(), err
	}
	d := diagnosis.Judge(n)
	switch c.output {
	case "json":
		err = report.JSON(os.Stdout, n, d)
	case "nagios":
		err = report.Nagios(os.Stdout, n, d)
	default:
		err = report.Text(os.Stdout, n, d, color(os.Stdout))
	}
	if err != nil {
		return diagnosis.Unknown.ExitStatus(), fmt.Errorf("write the report: %w", err)
	}
	return d.State.ExitStatus(), nil
}

func (c *checkConfig) observe(ctx context.Context, s *sources) (*node.Node, error) {
	switch {
	case c.from != "":
		return c.saved()
	case c.interval < 0:
		return nil, fmt.Errorf("--interval=%s: must not be negative", c.interval)
	case c.probe:
		return observe(ctx, s, c.interval, &c.path)
	}
	return observe(ctx, s, c.interval, nil)
}

// observe observes the node twice, an interval apart, and asks the path in between; once where there is neither
// interval nor path.
func observe(ctx context.Context, s *sources, interval time.Duration, path *probeConfig) (*node.Node, error) {
	s.Conntrack.MinInterval = 0                        // both observations scan
	set, err := s.build(slog.New(slog.DiscardHandler)) // the report itself says what could not be read
	if err != nil {
		return nil, err
	}
	first := set.observe(ctx, observeTimeout).Node
	var asked *node.Path
	if path != nil {
		if asked, err = path.ask(ctx, first); err != nil {
			return nil, err
		}
	} else if interval == 0 {
		return first, nil
	}
	if interval > 0 && terminal(os.Stderr) {
		fmt.Fprintf(os.Stderr, "Reading the counters twice, %s apart ...\r", interval)
		defer fmt.Fprint(os.Stderr, "\x1b[K") // clears the line
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return nil, fmt.Errorf("interrupted")
	}
	now := set.observe(ctx, observeTimeout).Node
	if asked != nil {
		now.Path = asked
	}
	now.Earlier = first
	return now, nil
}

func (c *checkConfig) saved() (*node.Node, error) {
	var r io.Reader = os.Stdin
	if c.from != "-" {
		f, err := os.Open(c.from)
		if err != nil {
			return nil, fmt.Errorf("--from: %w", err)
		}
		defer f.Close()
		r = f
	}
	n, err := diagnosis.ReadSaved(r)
	if err != nil {
		return nil, fmt.Errorf("--from=%s: %w", c.from, err)
	}
	return n, nil
}

// color follows no-color.org and leaves dumb terminals and files alone.
func color(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminal(f)
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// page renders the same report for the browser.
func page(metricsPath string, logger *slog.Logger) exporter.PageFunc {
	return func(w http.ResponseWriter, seen *exporter.Observation) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", report.ContentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		// Relative, so that the page works behind a proxy that adds a prefix.
		err := report.HTML(w, seen.Node, diagnosis.Judge(seen.Node), report.PageOptions{
			MetricsPath: metricsPath[1:],
			Version:     version.Version,
		})
		if err != nil {
			logger.Error("status page cannot be written", "err", err)
		}
	}
}
