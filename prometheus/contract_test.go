package prometheus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestAlertsKeepTheirContract(t *testing.T) {
	t.Parallel()
	runbook := anchors(read(t, "../docs/RUNBOOK.md"))
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		if !strings.HasPrefix(r.Alert, "Vxlan") {
			t.Errorf("%s: names begin with Vxlan", r.Alert)
		}
		if s := r.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, s) {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if c := r.Labels["cause"]; !slices.Contains([]string{
			"outer_nat", "inner_checksum", "tunnel_offload", "mtu",
			"exporter",
		}, c) {
			t.Errorf("%s: cause %q", r.Alert, c)
		}
		if len(r.Labels) != 2 || len(r.Annotations) != 4 {
			t.Errorf("%s: labels %v, annotations %v; want severity and cause, summary, description, runbook_url and "+
				"dashboard_url",
				r.Alert, r.Labels, r.Annotations)
		}
		checkAnnotations(t, r, runbook)
	}
}

func checkAnnotations(t *testing.T, r rule, runbook []string) {
	t.Helper()
	summary, description := r.Annotations["summary"], r.Annotations["description"]
	// An alert about a node leads to the node, one about a job to the fleet.
	named, dashboard := "{{ $labels.instance }}", "/d/vxlan-node?var-instance={{ $labels.instance | urlquery }}"
	if aboutJobs(r) {
		named, dashboard = "{{ $labels.job }}", "/d/vxlan-fleet?var-cluster={{ $labels.cluster | urlquery }}"
	}
	for _, text := range []string{summary, description} {
		if !strings.Contains(text, named) {
			t.Errorf("%s: %q does not name the node or job, %s", r.Alert, text, named)
		}
	}
	if !regexp.MustCompile("`[a-z_]+ [^`]+`").MatchString(description) {
		t.Errorf("%s: %q does not say what to type", r.Alert, description)
	}
	anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], "docs/RUNBOOK.md#")
	if !ok || anchor != strings.ToLower(r.Alert) || !slices.Contains(runbook, anchor) {
		t.Errorf("%s: runbook_url %q is no section of docs/RUNBOOK.md", r.Alert, r.Annotations["runbook_url"])
	}
	if u := r.Annotations["dashboard_url"]; u != dashboard {
		t.Errorf("%s: dashboard_url %q; want %q", r.Alert, u, dashboard)
	}
}

// aboutJobs tells an alert that has no instance: all it reads is recorded by job.
func aboutJobs(r rule) bool {
	metrics, recorded := metricNames(r.Expr)
	return len(metrics) == 0 && len(recorded) > 0 &&
		!slices.ContainsFunc(recorded, func(name string) bool { return !strings.HasPrefix(name, "job:") })
}

// anchors are those that GitHub gives headings of one word.
func anchors(markdown string) (all []string) {
	for line := range strings.Lines(markdown) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			all = append(all, strings.ReplaceAll(strings.ToLower(strings.TrimSpace(heading)), " ", "-"))
		}
	}
	return all
}

func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	documented := read(t, "../docs/METRICS.md")
	for _, r := range readRules(t) {
		metrics, _ := metricNames(r.Expr + strings.Join([]string{r.Annotations["description"], r.Annotations["summary"]},
			" "))
		for _, m := range metrics {
			if !strings.Contains(documented, "`"+m+"`") {
				t.Errorf("%s: %s is not in docs/METRICS.md", r.name(), m)
			}
		}
	}
}

func TestEveryRecordingIsUsedAndNothingElse(t *testing.T) {
	t.Parallel()
	used, recorded := map[string]string{}, map[string]bool{}
	for _, r := range readRules(t) {
		_, names := metricNames(r.Expr + r.Annotations["description"])
		for _, n := range names {
			if n != r.Record {
				used[n] = r.name()
			}
		}
		if r.Record == "" {
			continue
		}
		if !regexp.MustCompile(`^[a-z_]+:[a-z0-9_]+:[a-z0-9]+$`).MatchString(r.Record) {
			t.Errorf("%s: recordings are called level:metric:operation", r.Record)
		}
		if recorded[r.Record] {
			t.Errorf("%s is recorded twice", r.Record)
		}
		recorded[r.Record] = true
	}
	for name := range recorded {
		if used[name] == "" {
			t.Errorf("%s: no rule uses it", name)
		}
	}
	for name, by := range used {
		if !recorded[name] {
			t.Errorf("%s: no rule records it, and %s uses it", name, by)
		}
	}
}

// What reads a recording of its own group must stand behind it, or it would see the values of the evaluation before.
func TestRecordingsStandBeforeWhatReadsThem(t *testing.T) {
	t.Parallel()
	rules := readRules(t)
	for i, r := range rules {
		_, names := metricNames(r.Expr)
		for _, name := range names {
			at := slices.IndexFunc(rules, func(other rule) bool { return other.Record == name })
			if at > i && rules[at].group == r.group {
				t.Errorf("%s reads %s, which stands behind it in group %s", r.name(), name, r.group)
			}
		}
	}
}

// Each alert has a test in which it fires, whose annotations are written out, and one in which it does not.
func TestEveryAlertFiresAndIsSilentInTests(t *testing.T) {
	t.Parallel()
	firing, silent, known := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, c := range readTests(t) {
		for _, a := range c.Alert {
			if len(a.Alerts) == 0 {
				silent[a.Alertname]++
			}
			for _, alert := range a.Alerts {
				if len(alert.Annotations) != 4 {
					t.Errorf("%s: an alert %s without its four annotations", c.Name, a.Alertname)
				}
				named := []string{"instance", "device", "variant", "collector", "feature"}
				if alert.Labels["instance"] == "" {
					named = []string{"job", "cluster"}
				}
				for _, label := range named {
					if v := alert.Labels[label]; !strings.Contains(alert.Annotations["description"]+alert.Annotations["summary"], v) {
						t.Errorf("%s: %s does not name its %s, %s", c.Name, a.Alertname, label, v)
					}
				}
				firing[a.Alertname+" "+alert.Labels["severity"]]++
			}
		}
	}
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		if key := r.Alert + " " + r.Labels["severity"]; firing[key] == 0 || silent[r.Alert] == 0 {
			t.Errorf("%s: %d firing and %d silent tests", key, firing[key], silent[r.Alert])
		}
		known[r.Alert] = true
	}
	for name := range silent {
		if !known[name] {
			t.Errorf("tests of %s, which is no alert", name)
		}
	}
}

// Rules are held in check by more lines of tests than they have themselves.
func TestMoreTestsThanRules(t *testing.T) {
	t.Parallel()
	lines := func(pattern string) (n int) {
		for _, file := range files(t, pattern) {
			n += strings.Count(read(t, file), "\n")
		}
		return n
	}
	if rules, tests := lines("rules/*.yml"), lines("tests/*.yml"); tests <= rules {
		t.Errorf("%d lines of tests for %d lines of rules", tests, rules)
	}
}
