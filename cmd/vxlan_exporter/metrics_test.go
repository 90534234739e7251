package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// families are the names of the metrics in an exposition.
func families(exposition string) []string {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(exposition, -1) {
		names[m[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// The command metrics has what a scrape has, without what is of the serving process, or since it started.
func TestMetricsAreThoseOfAScrape(t *testing.T) {
	rig := labtest.NewRig(t, lab.LiveFailure())
	e := labtest.StartExporter(t, rig.A, labtest.Binary(t))
	scraped, err := e.Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(families(string(scraped)), func(name string) bool {
		return regexp.MustCompile(`^(go_|process_|promhttp_|vxlan_conntrack_nat_flows_seen_|vxlan_receiver_)`).
			MatchString(name)
	})
	got, err := rig.A.Run(labtest.Binary(t), "metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(families(got), want) || !slices.Contains(want, "vxlan_device_exposure") {
		t.Errorf("metrics has\n%v, a scrape\n%v", families(got), want)
	}
	if strings.Contains(got, `vxlan_scrape_collector_success{collector="conntrack"} 0`) {
		t.Errorf("connection tracking was not read:\n%s", got)
	}
	lint := exec.Command(labtest.Server(t, "promtool"), "check", "metrics")
	lint.Stdin = strings.NewReader(got)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// The file is replaced by another one, so that no reader ever sees a part of it; where that fails, the old one stays as
// it is.
func TestMetricsFile(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "vxlan.prom")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if stdout, stderr, status := runProgram(t, "metrics", "--output="+file); status != 0 || stdout != "" {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	var before bytes.Buffer
	if _, err := before.ReadFrom(old); err != nil || before.String() != "old\n" {
		t.Errorf("whoever had the file open reads %q, %v", before.String(), err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "vxlan_scrape_collector_success") {
		t.Errorf("%v:\n%s", err, text)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != fs.FileMode(0o644) {
		t.Errorf("%v, %v: node_exporter must be able to read it", info.Mode(), err)
	}
	for _, args := range [][]string{
		{"--output=" + filepath.Join(folder, "missing", "vxlan.prom")},
		{"--output=" + folder},
		{"--collector.wire"},
		{"--collector.path"},
	} {
		if stdout, stderr, status := runProgram(t, append([]string{"metrics"}, args...)...); status != 1 || stdout != "" ||
			!strings.Contains(stderr, "--") {
			t.Errorf("%v: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
}
