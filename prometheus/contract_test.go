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
		causes := regexp.MustCompile(`\{\{.*?\}\}`).ReplaceAllString(r.Labels["cause"], " ")
		for c := range strings.FieldsSeq(causes) {
			if !slices.Contains([]string{"outer_nat", "inner_checksum", "tunnel_offload", "mtu", "exporter"}, c) {
				t.Errorf("%s: cause %q", r.Alert, c)
			}
		}
		if len(r.Labels) != 2 || len(r.Annotations) != 3 {
			t.Errorf("%s: labels %v, annotations %v; want severity and cause, summary, description and runbook_url",
				r.Alert, r.Labels, r.Annotations)
		}
		checkAnnotations(t, r, runbook)
	}
}

func checkAnnotations(t *testing.T, r rule, runbook []string) {
	t.Helper()
	summary, description := r.Annotations["summary"], r.Annotations["description"]
	// An alert about a node names it and leads to its report, one about a cluster leads to Prometheus.
	link := "http://{{ $labels.instance }}/#"
	if !strings.Contains(r.Expr, "topk by (cluster") || strings.Contains(r.Expr, "job:up:count") {
		link = "{{ $externalURL }}/alerts?search=" + r.Alert + "#"
		if r.Alert == "VxlanExporterDown" {
			link = "{{ $externalURL }}/targets#"
		}
		if !strings.Contains(summary+description, "$labels.cluster") {
			t.Errorf("%s: %q does not name the cluster", r.Alert, summary+description)
		}
	} else if named := "{{ $labels.instance }}"; !strings.Contains(summary, named) ||
		!strings.Contains(description, named) {
		t.Errorf("%s: %q or %q does not name the node, %s", r.Alert, summary, description, named)
	}
	if !regexp.MustCompile("`[a-z_]+ [^`]+`").MatchString(description) {
		t.Errorf("%s: %q does not say what to type", r.Alert, description)
	}
	anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], link)
	if !ok || anchor != strings.ToLower(r.Alert) || !slices.Contains(runbook, anchor) {
		t.Errorf("%s: runbook_url %q is not %s and a section of docs/RUNBOOK.md", r.Alert, r.Annotations["runbook_url"], link)
	}
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

// Rules can be read at 3 a.m.: they are few and short, and none has a memory of its own.
func TestRulesAreFew(t *testing.T) {
	t.Parallel()
	rules := readRules(t)
	alerts := len(slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return r.Alert == "" }))
	if records := len(rules) - alerts; alerts > 12 || records > 6 {
		t.Errorf("%d alerts and %d recordings; want 12 and 6 at most", alerts, records)
	}
	text := ""
	for _, file := range files(t, "rules/*.yml") {
		text += read(t, file)
	}
	if n := strings.Count(text, "\n"); n > 300 {
		t.Errorf("%d lines of rules; want 300 at most", n)
	}
	for _, expr := range regexp.MustCompile(`(?m)^ +expr: .*\n((?: {10,}.*\n)*)`).FindAllStringSubmatch(text, -1) {
		if strings.Count(expr[1], "\n") > 6 {
			t.Errorf("more than 6 lines:\n%s", expr[0])
		}
		for line := range strings.Lines(expr[0]) {
			if len(line) > 121 {
				t.Errorf("more than 120 columns: %s", line)
			}
		}
	}
}

// A rule reads recordings of its own group that stand before it, and all recordings are read.
func TestRecordings(t *testing.T) {
	t.Parallel()
	rules := readRules(t)
	recording := regexp.MustCompile(`\b[a-z_]+:[a-z0-9_]+:[a-z0-9]+\b`)
	unread := map[string]string{} // by name, the group
	for _, r := range rules {
		if strings.Contains(r.Expr, "ALERTS") {
			t.Errorf("%s reads the alerts of before", r.name())
		}
		for _, name := range recording.FindAllString(r.Expr, -1) {
			if group, before := unread[name]; !before || group != r.group && group != "read "+r.group {
				t.Errorf("%s reads %s, which does not stand before it in group %s", r.name(), name, r.group)
			}
			unread[name] = "read " + r.group
		}
		if r.Record != "" {
			if recording.FindString(r.Record) != r.Record {
				t.Errorf("%s: recordings are called level:metric:operation", r.Record)
			}
			unread[r.Record] = r.group
		}
	}
	for name, group := range unread {
		if !strings.HasPrefix(group, "read ") {
			t.Errorf("%s: no rule reads it", name)
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
				if len(alert.Annotations) != 3 {
					t.Errorf("%s: an alert %s without its three annotations", c.Name, a.Alertname)
				}
				named := []string{"instance", "device", "variant", "collector", "feature"}
				if alert.Labels["instance"] == "" {
					named = []string{"job", "cluster", "variant", "backend", "state"}
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
