// Package prometheus_test holds the alert rules against what they promise: labels and annotations, a runbook,
// documented metrics, tests.
package prometheus_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is a recording or an alert rule as it stands in a rule file.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
	group                    string
}

// name is the alert's name, or the recorded series'.
func (r rule) name() string { return r.Alert + r.Record }

// alertTest is part of promtool's test files
// (https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/).
type alertTest struct {
	Alertname string `yaml:"alertname"`
	Alerts    []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type testCase struct {
	Name  string
	Alert []alertTest `yaml:"alert_rule_test"`
}

// readRules reads all rule files.
func readRules(t *testing.T) []rule {
	t.Helper()
	var rules []rule
	for _, file := range files(t, "rules/*.yml") {
		var f struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		decode(t, file, &f)
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				r.group = g.Name
				rules = append(rules, r)
			}
		}
	}
	if len(rules) == 0 {
		t.Fatal("no rules")
	}
	return rules
}

// readTests reads all test files.
func readTests(t *testing.T) []testCase {
	t.Helper()
	var cases []testCase
	for _, file := range files(t, "tests/*.yml") {
		var f struct{ Tests []testCase }
		decode(t, file, &f)
		cases = append(cases, f.Tests...)
	}
	return cases
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return names
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metricNames are the exporter's metrics and the recorded series in a PromQL expression or a template.
func metricNames(text string) (metrics, recorded []string) {
	text = regexp.MustCompile(`"[^"]*"`).ReplaceAllStringFunc(text, func(quoted string) string {
		if strings.Contains(quoted, "vxlan_") {
			return quoted // a query in a template
		}
		return ""
	})
	for _, name := range regexp.MustCompile(`[a-z0-9_]*:?vxlan_[a-z0-9_]+(:[a-z0-9_]+)?`).FindAllString(text, -1) {
		switch {
		case strings.Contains(name, ":"):
			recorded = append(recorded, name)
		case name != "vxlan_exporter": // the program
			metrics = append(metrics, name)
		}
	}
	return metrics, recorded
}
