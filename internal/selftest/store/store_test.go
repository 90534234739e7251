package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/fuzz/bound"
)

const (
	boot    = "0a1b2c3d-0000-4000-8000-000000000001"
	running = "6.18.44"
)

func result() node.SelfTest {
	return node.SelfTest{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BootID: boot, Release: running,
		Results: []node.SelfTestResult{
			{Variant: node.ZeroChecksum, Family: node.IPv4, Verdict: "fixed", Evidence: &node.Sums{
				Correct: 1, SourcePort: 2,
				SourcePortPreNAT: 3,
			}},
			{Variant: node.OffloadedChecksum, Family: node.IPv6, Verdict: "unknown", Reason: "no IPv6"},
		},
	}
}

func TestWriteAndLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "selftest.json")
	for range 2 { // the second replaces the first
		if err := Write(path, result()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(path, boot, running)
	if err != nil {
		t.Fatal(err)
	}
	if want := result(); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "x"), result()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "x", "y"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "x"), result()); err == nil {
		t.Error("wrote over a directory")
	}
	if err := Write(filepath.Join(dir, "z"), node.SelfTest{}); err == nil {
		t.Error("stored an empty result")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestLoadStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "selftest.json")
	if err := Write(path, result()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ boot, release string }{{"other", running}, {boot, "6.18.45"}, {"", running}, {boot, ""}} {
		if got, err := Load(path, c.boot, c.release); got != nil || !errors.Is(err, ErrStale) {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := Load(path+"x", boot, running); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestLoadHostile(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := Write(good, result()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, content := range map[string]string{
		"empty":         "",
		"null":          "null",
		"array":         "[]",
		"truncated":     text[:len(text)/2],
		"followed":      text + "{}",
		"unknown field": strings.Replace(text, `"boot_id"`, `"more": 1, "boot_id"`, 1),
		"verdict":       strings.Replace(text, `"fixed"`, `"perfect"`, 1),
		"variant":       strings.Replace(text, node.ZeroChecksum, "c", 1),
		"family":        strings.Replace(text, `"ipv4"`, `"ipx"`, 1),
		"range":         strings.Replace(text, `"correct": 1`, `"correct": 65536`, 1),
		"no evidence":   strings.Replace(text, `"unknown"`, `"affected"`, 1),
		"twice": strings.Replace(strings.Replace(text, node.OffloadedChecksum, node.ZeroChecksum, 1), `"ipv6"`,
			`"ipv4"`, 1),
		"huge": text + strings.Repeat(" ", maxSize),
		"deep": strings.Repeat("[", maxSize-1),
	} {
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(path, boot, running); got != nil || err == nil || errors.Is(err, ErrStale) ||
			len(err.Error()) > 500 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}

	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, open, dir, "/dev/zero"} {
		if got, err := Load(path, boot, running); got != nil || err == nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	if err := Write(path, result()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"results":[]}`))
	f.Add([]byte(`null`))
	f.Add([]byte(recorded))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got *node.SelfTest
		var err error
		bound.Read(t, min(len(b), maxSize), 200, 0, func() { got, err = decode(b[:min(len(b), maxSize)]) })
		if (got == nil) == (err == nil) {
			t.Errorf("%v, %v", got, err)
		}
		if err != nil {
			return
		}
		if check(*got) != nil {
			t.Error("decoded what cannot be")
		}
		// What was read can be stored, and is read the same again.
		path := filepath.Join(t.TempDir(), "again")
		if err := Write(path, *got); err != nil {
			return // a time that JSON cannot hold
		}
		if again, err := Load(path, got.BootID, got.Release); err != nil || !again.Time.Equal(got.Time) ||
			!reflect.DeepEqual(again.Results, got.Results) {
			t.Errorf("%+v, stored and read again %+v, %v", got, again, err)
		}
	})
}

// recorded is what the self-test wrote on Linux 6.18.
const recorded = `{"time":"2026-11-24T08:31:10Z","boot_id":"d78552db-2f3f-424b-9b1d-447217c06cb4","release":"6.18.44","results":[
{"variant":"zero_checksum","family":"ipv4","verdict":"fixed","evidence":{"field":0,"correct":7782,"source_port":40001,"source_port_pre_nat":50100}},
{"variant":"zero_checksum","family":"ipv6","verdict":"fixed","evidence":{"field":0,"correct":59566,"source_port":40001,"source_port_pre_nat":50100}},
{"variant":"offloaded_checksum","family":"ipv4","verdict":"affected","evidence":{"field":4033,"correct":14132,"source_port":40001,"source_port_pre_nat":50100}},
{"variant":"offloaded_checksum","family":"ipv6","verdict":"affected","evidence":{"field":53808,"correct":63907,"source_port":40001,"source_port_pre_nat":50100}}]}
`
