// Command demo shows the live failure between two namespaces: a request that stalls, what an exporter on each node
// sees of it, and the remedy.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/test/lab"
)

func main() {
	// SIGPIPE too: whoever reads our output may go away, and what was built must be taken down all the same.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run parses the arguments and plays the demonstration.
func run(ctx context.Context, args []string) error {
	o := lab.LiveFailure()
	o.UDPTimeout = 3 // seconds; with the kernel's 30, the stall is 63 s
	var rules []string
	for _, r := range lab.AllRules() {
		rules = append(rules, string(r))
	}
	app := kingpin.New("demo", "Cause the live failure between two network namespaces, show what an exporter on each "+
		"node sees of it, and cure it. Takes about 10 s. Needs root.")
	exporter := app.Flag("exporter", "The vxlan_exporter binary.").Required().ExistingFile()
	app.Flag("rules", "NAT rules of the sender.").Default(string(o.Rules)).EnumVar((*string)(&o.Rules), rules...)
	if _, err := app.Parse(args); err != nil {
		return fmt.Errorf("%w (try --help)", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	return demo(ctx, os.Stdout, *exporter, o)
}
