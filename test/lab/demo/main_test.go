package main

import (
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	m.Run()
}
