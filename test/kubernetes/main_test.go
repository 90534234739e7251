//go:build cluster

// Package kubernetes_test holds what is made for Kubernetes against the real thing: the image in a container runtime,
// the chart in Helm, what it renders in an API server with the Prometheus operator's resources.
package kubernetes_test

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

var (
	image    = flag.String("image", "", "OCI archive that make image built")
	helm     = flag.String("helm", "", "the program helm")
	programs = flag.String("programs", "", "folder of etcd, kube-apiserver and kubectl, which the script build has filled")
	operator = flag.String("operator", "", "folder of the Prometheus operator's resource definitions")
)

const root = "../.."

func TestMain(m *testing.M) {
	labtest.Enter(labtest.BuildExporter)
	m.Run()
}

// given ends a test that make did not give what it needs.
func given(t *testing.T, what *string) string {
	t.Helper()
	if *what == "" {
		labtest.Lacks(t, "make test-image, test-chart and test-kubernetes run this")
	}
	return *what
}

// execute runs a program and returns all that it says.
func execute(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	return string(out), err
}

// run runs a program and returns its standard output and standard error.
func run(t *testing.T, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Env = &o, &e, append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, o.String(), e.String())
	}
	return o.String(), e.String()
}
