//go:build load

// Package load_test runs the real exporter under load and churn that no node should ever see, and holds it to its
// bounds.
package load_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
)

// How long and how much. The defaults are the short form, of make stress; LOAD and CHURNS make it longer.
var (
	loadTime = flag.Duration("load", 5*time.Second, "how long each kind of load lasts")
	soak     = flag.Duration("soak", 5*time.Minute, "how long the soak lasts")
	churns   = flag.Int("churns", 1500, "VXLAN devices made, renamed and deleted")
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "leak" {
		leak(os.Args[2])
		return
	}
	labtest.Enter(labtest.BuildExporter)
	m.Run()
}
