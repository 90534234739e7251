//go:build stress

// Package stress_test runs the real exporter under load and churn that no node should ever see, and holds it to its bounds.
package stress_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"vxlan_exporter/test/lab/scrape"
)

// How long and how much. The defaults are the short form, which runs with all other tests; stress.mk has the long one.
var (
	loadTime = flag.Duration("load", 5*time.Second, "how long each kind of load lasts")
	churns   = flag.Int("churns", 1500, "VXLAN devices made, renamed and deleted")
)

// binary is the exporter, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	folder, err := os.MkdirTemp("", "vxlan_exporter-stress-")
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
