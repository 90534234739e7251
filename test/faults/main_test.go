package faults_test

import (
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Parallel("10") // some wait for the real clock
	m.Run()
}
