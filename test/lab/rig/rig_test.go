package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

func TestBadArguments(t *testing.T) {
	labtest.NeedNamespaces(t)
	for args, want := range map[string]string{
		"upp":                    "expected command",
		"up --rules=older":       `--rules="older": must be one of none, old, fixed`,
		"up --backend=ebtables":  `--backend="ebtables": must be one of legacy, nft`,
		"up --port=70000":        "70000",
		"up --mark-bit=32":       "mark bit 32: must be from 1 to 31",
		"set --family=ipv6":      "unknown long flag '--family'",
		"demo":                   "'--exporter' not provided",
		"demo --exporter=/none":  "/none",
		"request --name=nowhere": `rig "nowhere" is not standing`,
		"status --name=nowhere":  `rig "nowhere" is not standing`,
		"set --name=nowhere":     `rig "nowhere" is not standing`,
	} {
		err := run(t.Context(), strings.Fields(args))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", args, err, want)
		}
	}
	if err := run(t.Context(), []string{"down", "--name=nowhere"}); err != nil {
		t.Errorf("down of no rig: %v", err)
	}
}

func build(t *testing.T) string {
	t.Helper()
	command := filepath.Join(t.TempDir(), "rig")
	if out, err := exec.Command("go", "build", "-o", command, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return command
}

// The whole life of a standing rig, by the command itself, as the pod is served by a process that it leaves behind.
func TestCommands(t *testing.T) {
	labtest.NeedNamespaces(t)
	command := build(t)
	name := fmt.Sprintf("--name=vxe-command-%d", os.Getpid())
	try := func(verb string, flags ...string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, command, append([]string{verb, name}, flags...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // the status tells
		return cmd.ProcessState.ExitCode(), out.String()
	}
	rig := func(status int, want, verb string, flags ...string) {
		t.Helper()
		got, out := try(verb, flags...)
		if verb == "request" && got == status && !strings.Contains(out, want) {
			// Answered, and late: seen once in a hundred runs on a busy machine, and not what is tested here.
			t.Logf("once more: %s", out)
			got, out = try(verb, flags...)
		}
		if got != status || !strings.Contains(out, want) {
			t.Errorf("%s %v: status %d; want %d and %q:\n%s", verb, flags, got, status, want, out)
		}
	}
	defer rig(0, "", "down")
	rig(0, "standing: vxe-command-", "up", "--port=4789")
	rig(1, "already standing", "up")
	rig(1, "NATed VXLAN flow: 192.168.77.1:", "request", "--limit=800ms")
	rig(0, `"port": 4789`, "status")
	rig(1, "no switch given", "set")
	rig(0, "", "set", "--no-tx-checksum", "--receiver=none")
	rig(0, "", "request", "--limit=60s")
	rig(0, `"tx_checksum": false`, "status")
	rig(0, "", "set", "--tx-checksum", "--rules=fixed")
	rig(0, "", "request", "--limit=60s")
	rig(0, "", "down")
	rig(1, "not standing", "request")
}

// A demonstration that is cut short leaves nothing behind.
func TestDemoCutShort(t *testing.T) {
	labtest.NeedNamespaces(t)
	command := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Any program that never becomes ready will do for an exporter here.
	idle := filepath.Join(t.TempDir(), "exporter")
	if err := os.WriteFile(idle, []byte("#!/bin/sh\nexec sleep 20\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, command, "demo", "--exporter="+idle)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mine := func() []string {
		names, err := filepath.Glob(fmt.Sprintf("/run/netns/vxe-*-%d-*", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for ctx.Err() == nil && len(mine()) < 3 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // in the midst of it
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("exit status 0")
	}
	if left := mine(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	s := &stage{out: &out}
	s.table([]string{"before", "after"},
		scrape.Metrics{`vxlan_host_a_total`: 1, `vxlan_host_still`: 4, `go_goroutines`: 7},
		scrape.Metrics{
			`vxlan_host_a_total`: 3, `vxlan_host_still`: 4, `go_goroutines`: 8,
			`vxlan_conntrack_nat_flows_seen_total{family="ipv4",nat="snat",port="8472"}`: 2,
		})
	want := ` before  after
      -      2  vxlan_conntrack_nat_flows_seen_total{family="ipv4",nat="snat",
                  port="8472"}
      1      3  vxlan_host_a_total
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	s.table([]string{"before", "after"}, scrape.Metrics{"vxlan_host_still": 4}, scrape.Metrics{"vxlan_host_still": 4})
	if out.String() != "   nothing\n" {
		t.Errorf("got %q when nothing moved", out.String())
	}
}

func TestVerdict(t *testing.T) {
	if err := verdict(7*time.Second, 2*time.Millisecond, 3); err != nil {
		t.Error(err)
	}
	for _, bad := range []error{
		verdict(2*time.Millisecond, 2*time.Millisecond, 0),
		verdict(7*time.Second, 2*time.Millisecond, 0),
		verdict(7*time.Second, 7*time.Second, 3),
	} {
		if bad == nil {
			t.Error("a failed demonstration passed")
		}
	}
}
