package lab_test

import (
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	labtest.Parallel("8")
	m.Run()
}
