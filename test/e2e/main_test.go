// Package e2e_test runs the real exporter on both nodes of the two-node rig and compares what it publishes with what really happened.
package e2e_test

import (
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter(labtest.BuildExporter)
	labtest.Parallel("10")
	m.Run()
}
