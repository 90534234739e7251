package labtest

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/daemon"
	"vxlan_exporter/test/lab/monitor"
)

// NewNetwork makes a management network that lives as long as the test.
func NewNetwork(t testing.TB) *monitor.Network {
	t.Helper()
	NeedNamespaces(t)
	n, err := monitor.NewNetwork()
	if err != nil {
		t.Fatalf("network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Attach gives a node a management link and returns where its exporter is to listen.
func Attach(t testing.TB, n *monitor.Network, node *lab.NS) netip.AddrPort {
	t.Helper()
	address, err := n.Attach(node)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(address, 10059)
}

// Listen opens a TCP socket in a namespace for as long as the test runs.
func Listen(t testing.TB, n *lab.NS, address netip.AddrPort) net.Listener {
	t.Helper()
	l, err := daemon.Listen(t.Context(), n, address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // closed already, maybe
	return l
}

// StartMonitor runs Prometheus, and what else the options name, as long as the test. The programs are those of
// monitor.Programs where the options name no folder.
func StartMonitor(t testing.TB, n *monitor.Network, o monitor.Options) *monitor.Stack {
	t.Helper()
	if o.Programs == "" {
		o.Programs = filepath.Dir(Server(t, "prometheus"))
	}
	s, err := monitor.Start(context.WithoutCancel(t.Context()), n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if s.Prometheus != nil {
				t.Logf("Prometheus wrote:\n%s", s.Prometheus.Log())
			}
			if s.Alertmanager != nil {
				t.Logf("Alertmanager wrote:\n%s", s.Alertmanager.Log())
			}
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
