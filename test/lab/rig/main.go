// Command rig builds the two-node rig that shows the live failure, leaves it standing for experiments, and demonstrates it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
)

func main() {
	// SIGPIPE too: whoever reads our output may go away, and what was built must be taken down all the same.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

// run parses the arguments and runs the command they name.
func run(ctx context.Context, args []string) error {
	app := kingpin.New("rig", "Two nodes joined by VXLAN in network namespaces, with a pod behind the second, and NAT rules that spoil the tunnel's checksums. Needs root.")
	app.HelpFlag.Short('h')
	app.UsageWriter(os.Stdout)
	commands := map[string]func(context.Context) error{}
	addStanding(app, commands)
	addDemo(app, commands)
	command, err := app.Parse(args)
	if err != nil {
		return fmt.Errorf("%w (try --help)", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	return commands[command](ctx)
}
