package collectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/selftest/store"
)

const testBootID = "0a1b2c3d-0000-4000-8000-000000000001"

func kernelFixture(t *testing.T, osrelease, version string) KernelConfig {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "sys/kernel/random")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"../osrelease": osrelease, "../version": version, "boot_id": testBootID} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return KernelConfig{
		Proc: root, OSRelease: filepath.Join(root, "os-release"),
		SelfTestFile: filepath.Join(root, "selftest.json"),
	}
}

func observeKernel(t *testing.T, cfg KernelConfig) (*node.Node, error) {
	t.Helper()
	fill, err := NewKernel(cfg).Observe(t.Context(), new(node.Node))
	n := new(node.Node)
	fill(n)
	return n, err
}

// kernelSeries are the series with value 1, without their metric's name.
func kernelSeries(t *testing.T, n *node.Node) string {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(publisher{NewKernel(KernelConfig{}), n})
	text, err := exposition(r)
	if err != nil {
		t.Fatal(err)
	}
	var on []string
	for line := range strings.Lines(series(text)) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), " 1"); ok {
			on = append(on, strings.TrimPrefix(name, "vxlan_kernel_nat_checksum_bug"))
		}
	}
	return strings.Join(on, "\n")
}

// publisher makes a collector of one observation.
type publisher struct {
	c Collector
	n *node.Node
}

func (p publisher) Describe(ch chan<- *prometheus.Desc) { p.c.Describe(ch) }
func (p publisher) Collect(ch chan<- prometheus.Metric) { p.c.Publish(p.n, ch) }

func TestKernelRunning(t *testing.T) {
	n, err := observeKernel(t, KernelConfig{Proc: "/proc", OSRelease: "/etc/os-release"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if n.Kernel.BootID != strings.TrimSpace(string(want)) || n.Kernel.Release == "" || n.Kernel.Machine == "" ||
		n.Kernel.SelfTest != nil {
		t.Errorf("%+v", n.Kernel)
	}
}

func TestKernelByRelease(t *testing.T) {
	cfg := kernelFixture(t, "4.18.0-193.el8.x86_64", "#1 SMP Fri May 8 10:59:10 UTC 2020")
	n, err := observeKernel(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := `{evidence="release",variant="offloaded_checksum",verdict="affected"}` + "\n" +
		`{evidence="release",variant="zero_checksum",verdict="affected"}`
	if got := kernelSeries(t, n); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestKernelBySelfTest(t *testing.T) {
	sums := &node.Sums{Field: 1, Correct: 2, SourcePort: 3, SourcePortPreNAT: 4}
	cfg := kernelFixture(t, "6.18.44", "#1 SMP")
	test := node.SelfTest{Time: time.Unix(1, 0), BootID: testBootID, Release: "6.18.44", Results: []node.SelfTestResult{
		{Variant: node.ZeroChecksum, Family: node.IPv4, Verdict: kernelversion.Fixed, Evidence: sums},
		{Variant: node.ZeroChecksum, Family: node.IPv6, Verdict: kernelversion.Unknown, Reason: "no IPv6"},
		{Variant: node.OffloadedChecksum, Family: node.IPv4, Verdict: kernelversion.Fixed, Evidence: sums},
		{Variant: node.OffloadedChecksum, Family: node.IPv6, Verdict: kernelversion.Affected, Evidence: sums},
	}}
	if err := store.Write(cfg.SelfTestFile, test); err != nil {
		t.Fatal(err)
	}
	n, err := observeKernel(t, cfg)
	if err != nil || n.Kernel.SelfTest == nil || n.Kernel.SelfTestError != "" {
		t.Fatalf("%+v, %v", n.Kernel, err)
	}
	want := `{evidence="release",variant="offloaded_checksum",verdict="affected"}
{evidence="release",variant="zero_checksum",verdict="fixed"}
{evidence="selftest",variant="offloaded_checksum",verdict="affected"}
{evidence="selftest",variant="zero_checksum",verdict="fixed"}`
	if got := kernelSeries(t, n); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	test.BootID = strings.Replace(testBootID, "1", "2", 1)
	if err := store.Write(cfg.SelfTestFile, test); err != nil {
		t.Fatal(err)
	}
	if n, err = observeKernel(t, cfg); err != nil || n.Kernel.SelfTest != nil || n.Kernel.SelfTestError == "" {
		t.Errorf("of another boot: %+v, %v", n.Kernel, err)
	}
	if got := kernelSeries(t, n); strings.Contains(got, "selftest") {
		t.Errorf("published a stale result:\n%s", got)
	}

	if err := os.WriteFile(cfg.SelfTestFile, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err = observeKernel(t, cfg); err == nil || n.Kernel.SelfTest != nil || n.Kernel.Release != "6.18.44" {
		t.Errorf("broken file: %+v, %v", n.Kernel, err)
	}
}

func TestKernelUnreadable(t *testing.T) {
	cfg := kernelFixture(t, "6.1.0", "#1 SMP")
	boot := filepath.Join(cfg.Proc, "sys/kernel/random/boot_id")
	if err := os.WriteFile(boot, []byte("not a boot id\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := observeKernel(t, cfg); err == nil || n.Kernel.BootID != "" || n.Kernel.Release != "6.1.0" {
		t.Errorf("%+v, %v", n.Kernel, err)
	}
	cfg.Proc = t.TempDir()
	if n, err := observeKernel(t, cfg); node.Classify(err) != node.Failed || n.Kernel.Release != "" {
		t.Errorf("%+v, %v", n.Kernel, err)
	}
}
