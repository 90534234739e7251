//go:build e2e

// Package page_test proves the way from a bad packet to the page: real failures on rigs, one exporter per node, the shipped rules and
// configuration in a real Prometheus and Alertmanager, and a webhook that is paged, or is not. `make e2e` runs it: about 5 minutes, most
// of them spent waiting.
package page_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"vxlan_exporter/test/lab/scrape"
)

// program is the exporter, root the folder of the module.
var program, root string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	// All scenarios side by side.
	if err := flag.Set("test.parallel", fmt.Sprint(len(scenarios()))); err != nil {
		return fail(err)
	}
	folder, err := os.MkdirTemp("", "vxlan_exporter-page-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(folder)
	ctx := context.Background()
	if root, err = scrape.Root(ctx); err != nil {
		return fail(err)
	}
	if program, err = scrape.Build(ctx, folder); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
