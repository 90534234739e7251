// Command play lets a small fleet fail for a while, with the remedy applied to one of its two culprits near the end,
// and then runs a command beside the Prometheus that watched it, at http://127.0.0.1:9090. BEGAN tells the command when
// that was, in seconds since 1970.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/test/lab/scene"
	"vxlan_exporter/test/lab/scrape"
)

func main() {
	app := kingpin.New("play", "Let a small fleet fail, and run a command beside the Prometheus that watched it.")
	exporter := app.Flag("exporter", "The exporter's binary.").Default("./vxlan_exporter").String()
	interval := app.Flag("interval", "Between scrapes.").Default("5s").Duration()
	quiet := app.Flag("quiet", "Nothing fails for this long, at first.").Default("90s").Duration()
	failing := app.Flag("failing", "It fails for this long.").Default("4m").Duration()
	after := app.Flag("after", "One culprit goes on for this long, after the other was cured.").Default("90s").Duration()
	healthy := app.Flag("healthy", "Nothing is wrong, and nothing fails.").Bool()
	command := app.Arg("command", "What to run.").Required().Strings()
	kingpin.MustParse(app.Parse(os.Args[1:]))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := play(ctx, scene.Options{Exporter: *exporter, Interval: *interval, Healthy: *healthy}, *quiet, *failing,
		*after, *command)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "play:", err)
		os.Exit(1)
	}
}

func play(ctx context.Context, o scene.Options, quiet, failing, after time.Duration, command []string) (err error) {
	if o.Root, err = scrape.Root(); err != nil {
		return err
	}
	if o.Exporter, err = filepath.Abs(o.Exporter); err != nil {
		return err
	}
	s, err := scene.New(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	began := time.Now()
	if err := wait(ctx, quiet); err != nil {
		return err
	}
	if err := hurt(ctx, s, failing); err != nil {
		return err
	}
	if !o.Healthy {
		cured := s.Failing[1]
		if err := cured.SetTxChecksum(false); err != nil {
			return err
		}
		s.Cured(cured)
	}
	if err := hurt(ctx, s, after); err != nil {
		return err
	}
	cmd := s.Network.NS.Cmd(ctx, command...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("BEGAN=%d", began.Unix()))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// hurt makes requests for some time, in bursts as users do.
func hurt(ctx context.Context, s *scene.Scene, long time.Duration) error {
	for end, i := time.Now().Add(long), 0; time.Now().Before(end); i++ {
		if err := s.Hurt(ctx); err != nil {
			return err
		}
		if err := wait(ctx, []time.Duration{2, 5, 3, 12, 4}[i%5]*time.Second); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, long time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(long):
		return nil
	}
}
