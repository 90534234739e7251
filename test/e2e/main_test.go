// Package e2e_test runs the real exporter on both nodes of the two-node rig and compares what it publishes with what really happened.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// binary is the exporter, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := labtest.Parallel("6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	folder, err := os.MkdirTemp("", "vxlan_exporter-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil { // for the exporter without privileges
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary, err = scrape.Build(context.Background(), folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
