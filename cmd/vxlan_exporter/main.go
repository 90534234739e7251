// Command vxlan_exporter finds the VXLAN checksum failure on a node: it serves metrics for Prometheus (serve), reports
// to a person (check), prints metrics once (metrics), and proves what NAT on the running kernel does to outer checksums
// (selftest).
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
)

// command runs one command until it is done or interrupted, and returns the exit status: 0 with an error stands for 1.
type command func(context.Context, *slog.Logger) (int, error)

const programName = "vxlan_exporter"

func main() { os.Exit(run(os.Args[1:])) }

// run parses the arguments, runs the command they name and returns the exit status.
func run(args []string) int {
	app := kingpin.New(programName, "Finds NAT that spoils VXLAN checksums: exporter for Prometheus, and a check "+
		"for people.")
	app.Version(version.Print(programName)).HelpFlag.Short('h')
	app.UsageWriter(os.Stdout)
	app.ErrorWriter(os.Stderr)

	var logging promslog.Config
	promslogflag.AddFlags(app, &logging)
	sources := addSourceFlags(app)
	commands := map[string]command{}
	addServe(app, sources, commands)
	addCheck(app, sources, commands)
	addMetrics(app, sources, commands)
	addProbe(app, sources, commands)
	addSelfTest(app, sources, commands)
	addGuard(app, sources, commands)

	name, err := app.Parse(args)
	if err != nil {
		return fail(1, fmt.Errorf("%w (try --help)", err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	status, err := commands[name](ctx, promslog.New(&logging))
	if err != nil {
		return fail(cmp.Or(status, 1), err)
	}
	return status
}

// fail prints the one line that says what is wrong, and returns the exit status.
func fail(status int, err error) int {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })
	fmt.Fprintf(os.Stderr, "%s: %s\n", programName, strings.Join(lines, " "))
	return status
}
