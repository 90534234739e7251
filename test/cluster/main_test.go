//go:build cluster

package cluster_test

import (
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter(labtest.BuildExporter)
	labtest.Parallel("3")
	m.Run()
}
