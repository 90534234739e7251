package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

// programs are what package lab runs: make deps installs them.
func programs() []string {
	return []string{"ip", "iptables-nft", "iptables-legacy", "nft", "ethtool", "conntrack", "ipset", "tcpdump", "sysctl"}
}

// NeedNamespaces ends a test that cannot have network namespaces of its own.
func NeedNamespaces(t testing.TB) {
	t.Helper()
	if unavailable != nil {
		Lacks(t, unavailable.Error())
	}
	Need(t, programs()...)
}

// Server is the path of promtool, prometheus, alertmanager or amtool. It ends a test where that is missing.
func Server(t testing.TB, name string) string {
	t.Helper()
	root, err := scrape.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(monitor.Programs(root), name)
	Need(t, path)
	return path
}

// Need ends a test where a program is missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		Lacks(t, "not installed (make deps): "+strings.Join(missing, ", "))
	}
}

// NeedRoot ends a test for which the root of a user namespace is not enough, as for other users, of which there are
// none there.
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(stageEnv) != "" || !privileged() {
		Lacks(t, "needs root: "+why)
	}
}

// Lacks skips a test for a reason, and fails it where CI is set: there everything runs. The file that
// VXLAN_TEST_SKIPPED names gets a line.
func Lacks(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(reason)
	}
	if name := os.Getenv("VXLAN_TEST_SKIPPED"); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintf(f, "%s: %s\n", t.Name(), reason)
			err = f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Skip(reason)
}
