//go:build e2e

// Package page_test proves the way from a bad packet to the page: real failures on rigs, one exporter per node, the
// shipped rules and configuration in a real Prometheus and Alertmanager, and a webhook that is paged, or is not. `make
// e2e` runs it: about 5 minutes, most of them spent waiting.
package page_test

import (
	"fmt"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter(labtest.BuildExporter)
	labtest.Parallel(fmt.Sprint(len(scenarios()))) // all scenarios side by side
	m.Run()
}
