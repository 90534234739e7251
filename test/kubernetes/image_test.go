//go:build cluster

package kubernetes_test

import (
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// podman runs containers as the chart has them run: with the node's network, no capability but NET_ADMIN, a file system
// that cannot be written, and the runtime's own seccomp profile.
type podman struct {
	t       *testing.T
	options []string
}

func newPodman(t *testing.T) *podman {
	labtest.NeedRoot(t, "a container runtime")
	labtest.Need(t, "podman", "runc", "skopeo")
	dir := t.TempDir()
	return &podman{t, []string{
		"--root=" + dir + "/root", "--runroot=" + dir + "/run", "--tmpdir=" + dir + "/tmp", "--storage-driver=vfs",
		"--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc",
	}}
}

func (p *podman) do(args ...string) string {
	p.t.Helper()
	out, _ := run(p.t, "podman", slices.Concat(p.options, args)...)
	return strings.TrimSpace(out)
}

// in are the arguments that run a container in a namespace. The limits of files and processes are below those of
// whoever runs the test.
func in(n *lab.NS, more ...string) []string {
	return append([]string{
		"run", "--network=ns:" + n.Path(), "--cap-drop=all", "--cap-add=net_admin", "--read-only", "--read-only-tmpfs=false",
		"--security-opt=no-new-privileges", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
	}, more...)
}

// The image reads what the binary reads as root of the node, sees the live failure, and may do nothing else.
func TestImage(t *testing.T) {
	archive := given(t, image)
	p := newPodman(t)
	loaded := p.do("load", "--quiet", "--input="+archive)
	name := strings.TrimPrefix(loaded, "Loaded image: ")

	rig := labtest.NewRig(t, lab.LiveFailure())
	for range 2 { // some requests fail by a source port that NAT keeps
		_, _ = rig.Query(t.Context(), 3, 50*time.Millisecond)
	}
	id := p.do(in(rig.A, "--detach", "--volume=/etc/os-release:/etc/os-release:ro", name,
		"serve", "--web.listen-address="+scrape.Address)...)
	t.Cleanup(func() { _ = exec.Command("podman", append(p.options, "rm", "--force", "--time=0", id)...).Run() })
	got := metricsOf(t, rig.A)
	want := labtest.StartExporterAt(t, rig.A, netip.MustParseAddrPort("127.0.0.1:10060"), labtest.Binary(t)).Scrape()

	// As kubectl exec does it. Status 2: failing now.
	report, err := execute(t, "podman", slices.Concat(p.options, []string{"exec", id, "/vxlan_exporter", "check"})...)
	if err == nil || !strings.Contains(report, "FAILING NOW") {
		t.Errorf("check in the container: %v\n%s", err, report)
	}
	_, tag, _ := strings.Cut(name, ":")
	run(t, "skopeo", "copy", "--all", "oci-archive:"+archive, "oci:"+t.TempDir()+":"+tag)

	series := func(m scrape.Metrics) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(m)), func(s string) bool {
			return regexp.MustCompile(`^(go|process|promhttp)_|^vxlan_exporter_build_info`).MatchString(s)
		})
	}
	if !slices.Equal(series(got), series(want)) {
		t.Errorf("the container publishes\n%q\nthe binary\n%q", series(got), series(want))
	}
	for s, value := range got {
		if strings.HasPrefix(s, "vxlan_scrape_collector_success") && value != 1 {
			t.Errorf("%s %g", s, value)
		}
	}
	for _, s := range []string{
		`vxlan_conntrack_nat_flows{family="ipv4",nat="snat",port="8472"}`,
		`vxlan_device_exposure{device="flannel.1",state="active",variant="offloaded_checksum"}`,
	} {
		if !(got[s] > 0) || got[s] != want[s] {
			t.Errorf("%s: container %g, binary %g", s, got[s], want[s])
		}
	}

	pid := p.do("inspect", "--format={{.State.Pid}}", id)
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	const netAdmin = "0000000000001000"
	for _, line := range []string{
		"CapPrm:\t" + netAdmin, "CapEff:\t" + netAdmin, "CapBnd:\t" + netAdmin, "NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(string(status), line+"\n") {
			t.Errorf("no %q in:\n%s", line, status)
		}
	}
}

// The self-test works with what the chart's init container gets, and leaves its result to the exporter.
func TestImageSelfTest(t *testing.T) {
	archive := given(t, image)
	p := newPodman(t)
	name := strings.TrimPrefix(p.do("load", "--quiet", "--input="+archive), "Loaded image: ")
	ns, run := labtest.New(t, "selftest"), t.TempDir()
	out := p.do(in(ns.NS, "--rm", "--cap-add=sys_admin,net_raw", "--volume="+run+":/run/vxlan_exporter", name,
		"selftest", "--write=/run/vxlan_exporter/selftest.json", "--exit-zero")...)
	metrics := p.do(in(ns.NS, "--rm", "--volume="+run+":/run/vxlan_exporter:ro", name, "metrics")...)
	const affected = `{evidence="selftest",variant="offloaded_checksum",verdict="affected"} 1`
	if !strings.Contains(metrics, affected) {
		t.Errorf("the self-test said\n%s\nthe exporter says\n%s", out, metrics)
	}
}

// metricsOf waits for the container's exporter and scrapes it.
func metricsOf(t *testing.T, n *lab.NS) scrape.Metrics {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: n.DialContext}, Timeout: 15 * time.Second}
	for ready := false; !ready; {
		r, err := client.Get("http://" + scrape.Address + "/-/ready")
		if ready = err == nil && r.StatusCode == http.StatusOK; err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
		if !ready {
			time.Sleep(50 * time.Millisecond)
		}
	}
	r, err := client.Get("http://" + scrape.Address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	m, err := scrape.Parse(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a taken-over exporter would try is refused to the container, but for what harms nobody else.
func TestImageRefuses(t *testing.T) {
	archive := given(t, image)
	p := newPodman(t)
	name := strings.TrimPrefix(p.do("load", "--quiet", "--input="+archive), "Loaded image: ")
	hostile := filepath.Join(t.TempDir(), "hostile")
	cmd := exec.Command("go", "build", "-trimpath", "-o", hostile, "./test/hostile")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rig := labtest.New(t, "hostile")
	out := p.do(in(rig.NS, "--rm", "--volume="+hostile+":/hostile:ro", "--entrypoint=/hostile", name)...)
	var allowed []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "allowed "); ok {
			attempt, _, _ := strings.Cut(rest, ":")
			allowed = append(allowed, attempt)
		}
	}
	// The first process of the container is hostile itself; vsock and memory that is written and executed are what the
	// profile allows; a kernel without keyrings says so to everybody.
	allowed = slices.DeleteFunc(allowed, func(a string) bool { return a == "keyring" })
	want := []string{"see-init", "vsock-socket", "write-and-execute", "kill-init"}
	if !slices.Equal(allowed, want) || strings.Count(out, "\n") < 25 {
		t.Errorf("allowed %v, want %v:\n%s", allowed, want, out)
	}
}
