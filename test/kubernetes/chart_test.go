//go:build cluster

package kubernetes_test

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden renders anew")

const (
	chart    = root + "/packaging/helm/vxlan-exporter"
	testdata = root + "/packaging/helm/testdata/"
)

type object = map[string]any

// objects are the objects of a render, by kind and name.
func objects(t *testing.T, rendered string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for d := yaml.NewDecoder(strings.NewReader(rendered)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v:\n%s", err, rendered)
		}
		if o != nil {
			all[o["kind"].(string)+"/"+at(o, "metadata", "name").(string)] = o
		}
	}
}

// at follows keys and indexes.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(object)
			v = m[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// render is what helm template makes of the chart for a cluster with the Prometheus operator.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := run(t, given(t, helm), slices.Concat([]string{
		"template", "vxlan-exporter", chart, "--namespace=monitoring",
		"--api-versions=monitoring.coreos.com/v1/PodMonitor", "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
	}, args)...)
	return out
}

// Golden renders: with the default values as packaging/kubernetes has them, and with everything switched on. Rules and
// dashboards are compared with their files instead, so that these can change by themselves.
func TestRenders(t *testing.T) {
	program := given(t, helm)
	run(t, program, "lint", "--strict", chart)
	run(t, program, "lint", "--strict", chart, "--values="+testdata+"everything.values.yaml")
	t.Setenv("HELM", program)
	plain, _ := run(t, root+"/packaging/manifests", chart, "plain")
	for file, got := range map[string]string{
		root + "/packaging/kubernetes/vxlan-exporter.yaml": plain,
		testdata + "everything.yaml": render(t, "--values="+testdata+"everything.values.yaml",
			"--set=prometheusRule.enabled=false,dashboards.enabled=false"),
	} {
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, file) != got {
			t.Errorf("%s is not what the chart renders (make manifests, then look at the diff)", file)
		}
	}
}

// ruleFiles are the files of prometheus/rules, by what a PrometheusRule's name ends with.
func ruleFiles(t *testing.T) map[string]string {
	t.Helper()
	found, err := filepath.Glob(root + "/prometheus/rules/*.yml")
	if err != nil || len(found) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	files := map[string]string{}
	for _, file := range found {
		files[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "vxlan."), ".yml")] = file
	}
	return files
}

// The rules and dashboards that the chart brings are the shipped ones.
func TestRulesAndDashboards(t *testing.T) {
	all := objects(t, render(t))
	for part, file := range ruleFiles(t) {
		var want object
		text := strings.ReplaceAll(read(t, file), "http://{{ $labels.instance }}/", "http://{{ $labels.instance }}:10059/")
		if err := yaml.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		got := all["PrometheusRule/vxlan-exporter-"+part]
		if !reflect.DeepEqual(got["spec"], any(want)) || len(want) == 0 {
			t.Errorf("the PrometheusRule is not %s", file)
		}
	}
	for _, part := range []string{"fleet", "node"} {
		want := read(t, root+"/grafana/dashboards/vxlan-"+part+".json")
		got := all["ConfigMap/vxlan-exporter-"+part]
		if at(got, "data", "vxlan-"+part+".json") != want {
			t.Errorf("the ConfigMap is not grafana/dashboards/vxlan-%s.json", part)
		}
		if at(got, "metadata", "labels", "grafana_dashboard") != "1" {
			t.Errorf("%s: the sidecar of Grafana does not see it: %v", part, got["metadata"])
		}
		// kubectl apply keeps the object once more in an annotation, of 256 KiB at most (TotalAnnotationSizeLimitB).
		if len(want) > 200<<10 {
			t.Errorf("%s: %d bytes: kubectl apply will refuse it", part, len(want))
		}
	}
	links := render(t, "--set=prometheusRule.runbookURL=https://wiki/x,prometheusRule.grafanaURL=https://grafana/")
	want := map[string]string{"runbook": "https://wiki/x#", "dashboard": "https://grafana/d/"}
	found := map[string]int{}
	for _, m := range regexp.MustCompile(`(runbook|dashboard)_url: (\S+)`).FindAllStringSubmatch(links, -1) {
		found[m[1]]++
		if !strings.HasPrefix(m[2], want[m[1]]) {
			t.Errorf("%s is not rendered", m[0])
		}
	}
	if found["dashboard"] != found["runbook"] || strings.Contains(links, "example.org") {
		t.Errorf("%v links are rendered, and the dashboards' not all", found)
	}
}

// Nobody has a capability that is not needed, and the bounds are those of the unit, which the load test holds.
func TestPrivilegesAndBounds(t *testing.T) {
	privileges := func(args ...string) map[string]any {
		pod := at(objects(t, render(t, args...))["DaemonSet/vxlan-exporter"], "spec", "template", "spec").(object)
		added := map[string]any{}
		for _, list := range []string{"initContainers", "containers"} {
			containers, _ := pod[list].([]any)
			for _, c := range containers {
				security := at(c, "securityContext").(object)
				if !reflect.DeepEqual(at(security, "capabilities", "drop"), []any{"ALL"}) ||
					security["readOnlyRootFilesystem"] != true {
					t.Errorf("%v: %v", c.(object)["name"], security)
				}
				added[c.(object)["name"].(string)] = at(security, "capabilities", "add")
				unit := read(t, root+"/systemd/vxlan_exporter.service")
				memory := at(c, "resources", "limits", "memory").(string)
				if !strings.Contains(unit, "MemoryMax="+strings.TrimSuffix(memory, "i")+"\n") ||
					!strings.Contains(unit, "GOMEMLIMIT="+at(c, "env", 0, "value").(string)+"\n") {
					t.Errorf("%v: other bounds than the unit's: %v", c.(object)["name"], c)
				}
			}
		}
		return added
	}
	if got := privileges(); !reflect.DeepEqual(got, map[string]any{"exporter": []any{"NET_ADMIN"}}) {
		t.Errorf("by default: %v", got)
	}
	want := map[string]any{
		"exporter": []any{"NET_ADMIN", "NET_RAW"}, "guard": []any{"NET_ADMIN"},
		"selftest": []any{"SYS_ADMIN", "NET_ADMIN", "NET_RAW"},
	}
	if got := privileges("--values=" + testdata + "everything.values.yaml"); !reflect.DeepEqual(got, want) {
		t.Errorf("with everything: %v", got)
	}
}

// Values that cannot work are refused by the schema, with the value's name; every value has a place in it.
func TestSchema(t *testing.T) {
	program := given(t, helm)
	for _, bad := range []string{
		"port=80", "prot=10059", "podMonitor.enabled=yes", "maxUnavailable=0", "args={serve}", "image.repository=",
		"image.digest=sha256:12", "podMonitor.interval=15", "prometheusRule.runbookURL=a b", "wire=true",
	} {
		out, err := execute(t, program, "template", chart, "--set="+bad)
		key, _, _ := strings.Cut(bad, "=")
		if err == nil || !strings.Contains(out, filepath.Base(strings.ReplaceAll(key, ".", "/"))) {
			t.Errorf("--set %s: %v\n%s", bad, err, out)
		}
	}
}
