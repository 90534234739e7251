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
	for args, want := range map[string]string{
		"":                 "'--exporter' not provided",
		"--exporter=/none": "/none",
		"--exporter=/proc/self/exe --rules=older": "must be one of none,old,fixed",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", args, err, want)
		}
	}
}

// A demonstration that is cut short leaves nothing behind.
func TestDemoCutShort(t *testing.T) {
	labtest.NeedNamespaces(t)
	command := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", command, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Any program that never becomes ready will do for an exporter here.
	idle := filepath.Join(t.TempDir(), "exporter")
	if err := os.WriteFile(idle, []byte("#!/bin/sh\nexec sleep 20\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, command, "--exporter="+idle)
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
			`vxlan_host_a_total`: 3, `vxlan_host_still`: 4, `go_goroutines`: 8, `vxlan_host_a_timestamp_seconds`: 1.8e9,
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
