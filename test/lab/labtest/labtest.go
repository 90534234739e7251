// Package labtest gives tests the namespaces of package lab. Without root the tests run in a user namespace (Enter). A
// test that cannot have what it needs is skipped, with the reason, and fails where CI is set.
package labtest

import (
	"os"
	"testing"

	"vxlan_exporter/test/lab"
)

// NS is a namespace that lives as long as the test.
type NS struct {
	*lab.NS
	t testing.TB
}

// New makes a network namespace for t.
func New(t testing.TB, name string) *NS {
	t.Helper()
	NeedNamespaces(t)
	n, err := lab.NewNS(name)
	if err != nil {
		t.Fatalf("network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return &NS{n, t}
}

// Run runs a command in the namespace, fails the test when it fails, and returns its output.
func (n *NS) Run(args ...string) string { n.t.Helper(); return n.RunInput("", args...) }

// RunInput is Run with something on standard input.
func (n *NS) RunInput(stdin string, args ...string) string {
	n.t.Helper()
	return n.must(n.NS.RunInput(stdin, args...))
}

// Configure is RunInput for programs that need no /sys of the namespace, as lab.NS has it.
func (n *NS) Configure(stdin string, args ...string) string {
	n.t.Helper()
	return n.must(n.NS.Configure(stdin, args...))
}

func (n *NS) must(out string, err error) string {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// AddTun adds a device of a mode, tun or tap, but where CI is not set only if this process may open /dev/net/tun: some
// systems keep it for root.
func (n *NS) AddTun(name, mode string) {
	n.t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil && os.Getenv("CI") == "" {
		n.t.Logf("without a device of mode %s: %v", mode, err)
		return
	}
	_ = f.Close() // nil where it did not open: ip(8) says why
	n.Run("ip", "tuntap", "add", name, "mode", mode)
}

// Do calls f on a thread in the namespace and fails the test with its error.
func (n *NS) Do(f func() error) {
	n.t.Helper()
	if err := n.NS.Do(f); err != nil {
		n.t.Fatal(err)
	}
}
