package prometheus_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// jsonnet is a tool of its own module: the program's dependencies do not have it.
const jsonnet = "github.com/google/go-jsonnet/cmd/jsonnet@v0.21.0"

// The mixin has the rules and the dashboards as they are shipped, but for the links.
func TestMixin(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "run", jsonnet, "-e", `
		local m = (import 'mixin.libsonnet') + { _config+:: { runbookURL: 'https://wiki/r', grafanaURL: 'https://g' } };
		{ groups: m.prometheusAlerts.groups, dashboards: m.grafanaDashboards }`)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		if exit, is := errors.AsType[*exec.ExitError](err); is && !strings.Contains(string(exit.Stderr), "RUNTIME ERROR") {
			labtest.Lacks(t, "go run "+jsonnet+": "+string(exit.Stderr))
		}
		t.Fatal(err)
	}
	var got struct {
		Groups     []struct{ Rules []rule }
		Dashboards map[string]struct{ UID string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var rules []rule
	for _, g := range got.Groups {
		rules = append(rules, g.Rules...)
	}
	want := readRules(t)
	if !slices.EqualFunc(rules, want, func(a, b rule) bool {
		return a.name() == b.name() && a.Expr == b.Expr && a.For == b.For &&
			a.Annotations["description"] == b.Annotations["description"]
	}) {
		t.Errorf("the mixin has other rules than prometheus/rules: %+v", rules)
	}
	for _, r := range rules {
		runbook, dashboard := r.Annotations["runbook_url"], r.Annotations["dashboard_url"]
		if r.Alert != "" && (runbook != "https://wiki/r#"+strings.ToLower(r.Alert) ||
			!strings.HasPrefix(dashboard, "https://g/d/vxlan-")) {
			t.Errorf("%s: %s, %s", r.Alert, runbook, dashboard)
		}
	}
	if got.Dashboards["vxlan-fleet.json"].UID != "vxlan-fleet" || got.Dashboards["vxlan-node.json"].UID != "vxlan-node" {
		t.Errorf("dashboards %+v", got.Dashboards)
	}
}
