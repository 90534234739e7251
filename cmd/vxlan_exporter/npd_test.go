package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The configuration for node-problem-detector keeps its rules (CustomPluginConfig.Validate of
// pkg/custompluginmonitor/types), and turns exit statuses into its own: 0 good, 1 bad, 2 and all others unknown
// (pkg/custompluginmonitor/plugin).
func TestNodeProblemDetector(t *testing.T) {
	var c struct {
		Plugin       string
		PluginConfig struct {
			Timeout string
		}
		Conditions []struct{ Type string }
		Rules      []struct {
			Type, Condition, Path, Timeout string
			Args                           []string
		}
	}
	if err := json.Unmarshal([]byte(readDoc(t, "packaging/node-problem-detector.json")), &c); err != nil {
		t.Fatal(err)
	}
	if c.Plugin != "custom" || len(c.Conditions) != 1 || len(c.Rules) != 1 {
		t.Fatalf("%+v", c)
	}
	rule := c.Rules[0]
	all, err := time.ParseDuration(c.PluginConfig.Timeout)
	one, err2 := time.ParseDuration(rule.Timeout)
	if errors.Join(err, err2) != nil || one > all || rule.Type != "permanent" || rule.Condition != c.Conditions[0].Type {
		t.Errorf("%+v", c)
	}
	for status, want := range map[int]int{0: 0, 1: 0, 2: 1, 3: 2, 127: 2} {
		folder := t.TempDir()
		script := fmt.Sprintf("#!/bin/sh\n[ \"$1 $2\" = 'check --output=nagios' ] && exit %d\nexit 9\n", status)
		if err := os.WriteFile(filepath.Join(folder, "vxlan_exporter"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(rule.Path, rule.Args...)
		cmd.Env = []string{"PATH=" + folder}
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("check exits with %d, the rule with %d, want %d", status, cmd.ProcessState.ExitCode(), want)
		}
	}
}
