package lab_test

import (
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestNamespace(t *testing.T) {
	n := labtest.New(t, "ns")
	n.Run("ip", "link", "add", "dummy-here", "type", "veth", "peer", "name", "dummy-there")
	if out := n.Run("ip", "-br", "link"); !strings.Contains(out, "dummy-here") {
		t.Errorf("link not in the namespace: %s", out)
	}
	n.Do(func() error {
		_, err := net.InterfaceByName("dummy-here")
		return err
	})
	if _, err := net.InterfaceByName("dummy-here"); err == nil {
		t.Error("link leaked into the test's own namespace")
	}
	if _, err := n.NS.Run("false"); err == nil {
		t.Error("a failing command gave no error")
	}
	if _, err := os.Stat(n.Path()); err != nil {
		t.Error(err)
	}
}

func TestDoOfAFunctionThatDoesNotReturn(t *testing.T) {
	own := func() string {
		t.Helper()
		s, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := own()
	n := labtest.New(t, "goexit")
	if err := n.NS.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error")
	}
	for range 50 {
		n.Do(func() error { return nil })
	}
	// /proc/self is the process's first thread: it must not have served.
	if after := own(); after != before {
		t.Errorf("the process was in %s and is in %s now", before, after)
	}
}
