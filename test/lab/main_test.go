package lab_test

import (
	"fmt"
	"os"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	if err := labtest.Parallel("8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
