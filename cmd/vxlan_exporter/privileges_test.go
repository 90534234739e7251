package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/capability"
	"vxlan_exporter/test/lab/labtest"
)

// status reads a field of every thread of a process and fails when they differ.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d threads, %v", len(files), err)
	}
	var value string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^` + field + `:\s+(\S+)$`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s: no %s", file, field)
		}
		if value != "" && value != string(m[1]) {
			t.Fatalf("%s is %s on one thread and %s on another", field, value, m[1])
		}
		value = string(m[1])
	}
	return value
}

func hex(c capability.Set) string { return fmt.Sprintf("%016x", uint64(c)) }

// What an exporter that root starts keeps, on all of its threads; and that it still reads everything with that.
func TestCapabilitiesAreGivenUp(t *testing.T) {
	const line = "dropped the capabilities"
	admin, raw := capability.NetAdmin, capability.NetRaw
	const caps = "-all,+net_admin,+dac_read_search"
	service := []string{
		"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=" + caps,
		"--ambient-caps=" + caps, "--bounding-set=" + caps,
	}
	tests := []struct {
		name  string
		under []string // the program that starts it
		args  []string
		has   capability.Set
		bound capability.Set
		lines int
		wrong []string // collectors that cannot read
	}{
		{name: "root", has: admin, bound: admin, lines: 1},
		{name: "wire", args: []string{"--collector.wire"}, has: admin | raw, bound: admin | raw, lines: 1},
		{name: "natrules only", args: []string{"--no-collector.conntrack"}, has: admin, bound: admin, lines: 1},
		{name: "nothing that needs any", args: []string{"--no-collector.conntrack", "--no-collector.natrules"}, lines: 1},
		{
			name: "privileged port", args: []string{"--web.listen-address=127.0.0.1:79"}, has: admin | capability.NetBindService,
			bound: admin | capability.NetBindService, lines: 1,
		},
		{name: "unprivileged", under: []string{
			"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
			"--inh-caps=-all", "--bounding-set=-all",
		}, wrong: []string{"conntrack", "natrules"}},
		{
			name: "the unit with its drop-in", under: service, has: admin | capability.DACReadSearch,
			bound: admin | capability.DACReadSearch,
		},
		{
			name: "the drop-in for nothing", under: service, args: []string{"--no-collector.natrules"}, has: admin,
			bound: admin | capability.DACReadSearch, lines: 1,
		},
		{
			name: "some missing", under: []string{"setpriv", "--bounding-set=-all,+net_raw,+chown"}, lines: 1, bound: raw | 1,
			wrong: []string{"conntrack", "natrules"},
		},
	}
	ns := labtest.New(t, "caps")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if slices.Contains(tt.under, "--reuid=65534") {
				labtest.NeedRoot(t, "the exporter runs as another user")
			}
			s := startUnder(t, append([]string{"ip", "netns", "exec", ns.Name}, tt.under...), tt.args...)
			client := &http.Client{Transport: &http.Transport{DialContext: ns.DialContext, DisableKeepAlives: true}}
			_, body, _ := fetch(t, client, "http://"+s.addr+"/metrics", nil)
			for _, field := range []string{"CapEff", "CapPrm"} {
				if got := status(t, s.cmd.Process.Pid, field); got != hex(tt.has) {
					t.Errorf("%s is %s, want %s", field, got, hex(tt.has))
				}
			}
			if got := status(t, s.cmd.Process.Pid, "CapBnd"); got != hex(tt.bound) {
				t.Errorf("CapBnd is %s, want %s", got, hex(tt.bound))
			}
			if got := status(t, s.cmd.Process.Pid, "NoNewPrivs"); got != "1" {
				t.Errorf("NoNewPrivs is %s", got)
			}
			refused := regexp.MustCompile(`vxlan_scrape_collector_not_permitted{collector="([a-z]+)"} 1`).
				FindAllStringSubmatch(body, -1)
			var wrong []string
			for _, m := range refused {
				wrong = append(wrong, m[1])
			}
			if fmt.Sprint(wrong) != fmt.Sprint(tt.wrong) {
				t.Errorf("not permitted: %v, want %v", wrong, tt.wrong)
			}
			if code, log := s.stop(t); code != 0 || strings.Count(log, line) != tt.lines ||
				strings.Contains(log, "could not all be given up") {
				t.Errorf("exit status %d, want 0 and %d lines %q:\n%s", code, tt.lines, line, log)
			}
		})
	}
}

// A file that only the capabilities of root could read is refused at once, and the message says why.
func TestFilesOfOthersAreRefusedAtOnce(t *testing.T) {
	labtest.NeedRoot(t, "the file is another user's")
	file := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := runProgram(t, "--web.listen-address=127.0.0.1:0", "--web.config.file="+file)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "permission denied") ||
		!strings.Contains(stderr, "owner") {
		t.Errorf("exit status %d\n%s", code, stderr)
	}
}

// The guard keeps the one capability that setting features takes.
func TestGuardGivesUpCapabilities(t *testing.T) {
	ns := labtest.New(t, "guardcaps")
	cmd := exec.Command("ip", "netns", "exec", ns.Name, labtest.Binary(t), "guard", "--dry-run")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want, got := hex(capability.NetAdmin), ""
	for end := time.Now().Add(10 * time.Second); got != want && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = statusOf(cmd.Process.Pid, "CapBnd")
	}
	if got != want {
		t.Errorf("CapBnd is %s, want %s", got, want)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// statusOf reads a field of a process's first thread.
func statusOf(pid int, field string) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // empty: asked again
	if m := regexp.MustCompile(`(?m)^` + field + `:\s+(\S+)$`).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}

func TestListeningOnPrivilegedPorts(t *testing.T) {
	for address, want := range map[string]capability.Set{
		":10059": 0, "127.0.0.1:0": 0, ":80": capability.NetBindService, "[::1]:443": capability.NetBindService,
		":https": capability.NetBindService, "vsock://:80": capability.NetBindService, ":1024": 0,
		":1023": capability.NetBindService, "nonsense": 0,
	} {
		if got := listening([]string{":10059", address}); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
