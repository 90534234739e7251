// Package e2e_test runs the real exporter on both nodes of the two-node rig and compares what it publishes with what really happened.
package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"vxlan_exporter/lab/scrape"
)

// binary is the exporter, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	folder, err := os.MkdirTemp("", "vxlan_exporter-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	if binary, err = scrape.Build(context.Background(), folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
