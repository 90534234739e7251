package selftest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

// checkResults holds results to what is known of every kernel that these tests run on: A fixed, but in one that is
// built to have it, and B affected.
func checkResults(t *testing.T, got node.SelfTest) {
	t.Helper()
	if len(got.Results) != 4 {
		t.Fatalf("%d results: %+v", len(got.Results), got)
	}
	for _, r := range got.Results {
		want := kernelversion.Fixed
		if r.Variant == node.OffloadedChecksum || labtest.ZeroChecksumBug() {
			want = kernelversion.Affected
		}
		if r.Verdict != want || r.Evidence == nil || r.Reason != "" {
			t.Errorf("%s over %s: %s (%s), want %s", r.Variant, r.Family, r.Verdict, r.Reason, want)
			continue
		}
		e := *r.Evidence
		if e.SourcePort == e.SourcePortPreNAT {
			t.Errorf("%s over %s: not NATed: %+v", r.Variant, r.Family, e)
		}
		// The sum is wrong by what NAT changed: the source port before NAT follows from the numbers of the packet alone.
		deduced := (int(e.SourcePort) + int(e.Correct) - int(e.Field) + 2*0xffff) % 0xffff
		if r.Variant == node.OffloadedChecksum && deduced != int(e.SourcePortPreNAT) {
			t.Errorf("%s over %s: %d before NAT by the sum: %+v", r.Variant, r.Family, deduced, e)
		}
		if r.Variant == node.ZeroChecksum {
			field := uint16(0)
			if labtest.ZeroChecksumBug() {
				field = 0xffff
			}
			if e.Field != field {
				t.Errorf("%s over %s: %+v, want %#04x", r.Variant, r.Family, e, field)
			}
		}
	}
}

func TestRunningKernel(t *testing.T) {
	got, err := Run(t.Context(), "/proc")
	if err != nil {
		t.Fatal(err)
	}
	checkResults(t, got)
	out, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got.Release != strings.TrimSpace(string(out)) || len(got.BootID) != 36 || time.Since(got.Time) > time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestRunsAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	results, errs := make([]node.SelfTest, 4), make([]error, 4)
	for i := range results {
		wg.Go(func() { results[i], errs[i] = Run(t.Context(), "/proc") })
	}
	wg.Wait()
	for i := range results {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		checkResults(t, results[i])
	}
}

func TestNothingLeft(t *testing.T) {
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), "/proc"); err != nil { // the runtime's own files and threads are there after this
		t.Fatal(err)
	}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		if _, err := Run(t.Context(), "/proc"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "as many open files as before", func() bool { return openFiles(t) <= files })
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "every thread at home", func() bool {
		tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if ns, err := os.Readlink(task); err == nil && ns != home {
				return false
			}
		}
		return true
	})
}

func TestFirstThread(t *testing.T) {
	if out, err := child(t, "first thread").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// state is all that the self-test could have changed in a namespace.
func state(n *labtest.NS) string {
	var b strings.Builder
	for _, cmd := range []string{
		"ip -d -o link", "ip -o addr", "ip route show table all", "ip -6 route show table all", "ip neigh", "bridge fdb",
		"nft list ruleset",
		"iptables-save", "ip6tables-save", "conntrack -L", "sysctl -a -r ^net\\.ipv[46]\\.conf",
	} {
		b.WriteString(n.Run("sh", "-c", "exec "+cmd+" 2>/dev/null") + "\n")
	}
	return b.String()
}

// TestNodeUntouched runs the self-test from a namespace that stands for the node's, and compares that before and after.
func TestNodeUntouched(t *testing.T) {
	n := labtest.New(t, "selftest")
	n.Run("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "4789", "dev", "lo", "local",
		"127.0.0.1")
	n.Run("nft", "add table ip mine; add chain ip mine c { type nat hook postrouting priority 100; }; add rule ip mine "+
		"c masquerade fully-random")
	n.Run("nft", "list", "ruleset")
	before := state(n)
	if !strings.Contains(before, "flannel.1") || !strings.Contains(before, "masquerade") {
		t.Fatalf("state: %s", before)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Cmd(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"=run")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got node.SelfTest
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	checkResults(t, got)
	if after := state(n); after != before {
		b, a := lines(before), lines(after)
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("changed: %q to %q", b[i], a[i])
			}
		}
		t.Fatalf("changed: %d lines to %d", len(b), len(a))
	}
}

func TestKilled(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGSEGV} {
		cmd := child(t, "stop")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ns, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		ns = strings.TrimSpace(ns)
		if !strings.HasPrefix(ns, "net:[") || len(holders(t, ns)) == 0 {
			t.Fatalf("namespace %q is held by nobody before the kill", ns)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%v: exit status 0", signal)
		}
		eventually(t, "namespace gone", func() bool { return len(holders(t, ns)) == 0 })
	}
}

func TestUnprivileged(t *testing.T) {
	labtest.NeedRoot(t, "it runs as another user")
	for name, caps := range map[string][]uintptr{
		"none":             nil,
		"no CAP_NET_RAW":   {unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN},
		"no CAP_NET_ADMIN": {unix.CAP_SYS_ADMIN, unix.CAP_NET_RAW},
	} {
		cmd := child(t, "run")
		cmd.SysProcAttr = capabilities(t, caps...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 77 {
			t.Errorf("%s: %v: %s", name, err, &stderr)
		}
		if text := stderr.String(); !strings.Contains(text, "operation not permitted") ||
			!strings.Contains(text, "(needs root: CAP_SYS_ADMIN") || stdout.Len() != 0 {
			t.Errorf("%s: stdout %q, stderr %q", name, &stdout, &stderr)
		}
	}
	cmd := child(t, "run")
	cmd.SysProcAttr = capabilities(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("with the three capabilities: %v", err)
	}
	var got node.SelfTest
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	checkResults(t, got)
}

func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, "/proc"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// fixture is a procfs with the given files, besides those that every run reads.
func fixture(t *testing.T, osrelease string, files ...string) string {
	t.Helper()
	root := t.TempDir()
	content := map[string]string{
		"sys/kernel/osrelease": osrelease, "sys/kernel/version": "#1 SMP",
		"sys/kernel/random/boot_id": "0a1b2c3d-0000-4000-8000-000000000001",
	}
	for _, f := range files {
		content[f] = "0"
	}
	for name, text := range content {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLacking(t *testing.T) {
	got, err := Run(t.Context(), fixture(t, "6.1.0"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got.Results {
		if v6 := r.Family == node.IPv6; v6 != (r.Verdict == kernelversion.Unknown) ||
			v6 != strings.Contains(r.Reason, "no IPv6") {
			t.Errorf("without IPv6: %+v", r)
		}
	}

	got, err = Run(t.Context(), fixture(t, "3.10.0-1160.el7.x86_64"))
	if err != nil || len(got.Results) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, r := range got.Results {
		if r.Verdict != kernelversion.Unknown || !strings.Contains(r.Reason, "connection tracking") {
			t.Errorf("would load conntrack on an old kernel: %+v", r)
		}
	}
	got, err = Run(t.Context(), fixture(t, "3.10.0-1160.el7.x86_64", "sys/net/netfilter/nf_conntrack_max"))
	if err != nil || got.Results[0].Verdict == kernelversion.Unknown {
		t.Errorf("with conntrack loaded: %+v, %v", got, err)
	}

	if _, err = Run(t.Context(), fixture(t, "nonsense")); err != nil {
		t.Error(err)
	}
	if _, err = Run(t.Context(), t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without /proc: %v", err)
	}
}

// TestNATRefused asks for a family that nf_tables does not have: the kernel's error comes back, without waiting for the
// deadline.
func TestNATRefused(t *testing.T) {
	err := inNamespace(func() error {
		if err := addNAT(time.Now().Add(time.Minute), 99, natSource, vxlanPort, natPort); err == nil ||
			errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
