package grafana_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vxlan_exporter/grafana"
)

// What is known to every Grafana from 10 to 13, of what the dashboards use: looked up in the registries of
// @grafana/data 10.0.4 and 13.2.3. Look up what you add.
var everywhere = map[string][]string{
	"transformation": {"groupingToMatrix", "limit", "merge", "organize", "sortBy"},
	"matcher":        {"byName", "byRegexp", "byType"},
	"unit": {
		"bytes", "cpm", "dateTimeAsIso", "dateTimeAsIsoNoDateIfToday", "percentunit", "s",
		"short", "string",
	},
	"color": {
		"red", "green", "purple", "orange", "blue", "text", "light-blue",
		"dark-red", "dark-orange", "dark-purple",
	},
	"color mode": {"fixed", "thresholds", "palette-classic", "shades"},
	"mapping":    {"value", "special"},
	"calc":       {"lastNotNull"},
	// of those that the refresh picker offers; 5s is the least that a server allows by default
	"refresh": {"30s", "1m"},
}

// newestSchema of Grafana 10.0: an older Grafana knows no way back from a newer one's.
const newestSchema = 38

// Imported by hand or provisioned from files, in every Grafana from 10 to 13.
func TestImportable(t *testing.T) {
	t.Parallel()
	for _, d := range dashboards(t) {
		var all map[string]any
		raw, err := os.ReadFile(filepath.Join("dashboards", d.UID+".json"))
		if err != nil || json.Unmarshal(raw, &all) != nil {
			t.Fatal(err)
		}
		// What belongs to one server, or to the form that Grafana exports for sharing: an import would ask questions,
		// provisioning fail.
		for _, key := range []string{
			"id", "version", "__inputs", "__requires", "__elements", "meta", "dashboard", "spec",
			"folderUid",
		} {
			if _, is := all[key]; is {
				t.Errorf("%s: has %q", d.UID, key)
			}
		}
		if !regexp.MustCompile(`^[a-zA-Z0-9_-]{1,40}$`).MatchString(d.UID) {
			t.Errorf("uid %q: Grafana takes 40 letters, digits, - and _", d.UID)
		}
		if v, _ := all["schemaVersion"].(float64); v < 36 || v > newestSchema {
			t.Errorf("%s: schemaVersion %v; want 36 to %d", d.UID, all["schemaVersion"], newestSchema)
		}
		if !slices.Contains(d.Tags, "vxlan_exporter") || d.Time.From != "now-1h" || d.Time.To != "now" {
			t.Errorf("%s: tags %v, time %v", d.UID, d.Tags, d.Time)
		}
		used := map[string][]string{"refresh": {d.Refresh}}
		walk(all, func(key string, value any) {
			switch key {
			case "datasource":
				if got := fmt.Sprint(value); got != fmt.Sprint(map[string]any{"type": chosen.Type, "uid": chosen.UID}) {
					t.Errorf("%s: asks the data source %s", d.UID, got)
				}
			case "libraryPanel", "alert", "repeat", "scopedVars", "pluginVersion":
				t.Errorf("%s: has %q: %v", d.UID, key, value)
			case "color", "fixedColor", "iconColor":
				if name, is := value.(string); is {
					used["color"] = append(used["color"], name)
				}
			}
		})
		for _, p := range d.Panels {
			collect(used, p)
		}
		for what, ids := range used {
			for _, id := range ids {
				if !slices.Contains(everywhere[what], id) {
					t.Errorf("%s: %s %q: is it in all of Grafana 10 to 13?", d.UID, what, id)
				}
			}
		}
		if len(used["color"]) < 10 || len(used["transformation"]) < 5 || len(used["unit"]) < 10 {
			t.Errorf("%s: found %v: the JSON is not read right", d.UID, used)
		}
		variables(t, d)
	}
}

// collect notes what a panel uses of Grafana's registries.
func collect(used map[string][]string, p grafana.Panel) {
	add := func(what, id string) {
		// prefix: and suffix: are units of their own.
		if id != "" && (what != "unit" || !strings.HasPrefix(id, "suffix:")) {
			used[what] = append(used[what], id)
		}
	}
	for _, tr := range p.Transformations {
		add("transformation", tr.ID)
	}
	add("unit", p.FieldConfig.Defaults.Unit)
	add("color mode", p.FieldConfig.Defaults.Color.Mode)
	for _, m := range p.FieldConfig.Defaults.Mappings {
		add("mapping", m.Type)
	}
	for _, o := range p.FieldConfig.Overrides {
		add("matcher", o.Matcher.ID)
		for _, property := range o.Properties {
			if unit, is := property.Value.(string); property.ID == "unit" && is {
				add("unit", unit)
			}
		}
	}
	reduce, _ := p.Options["reduceOptions"].(map[string]any)
	calcs, _ := reduce["calcs"].([]any)
	for _, calc := range calcs {
		add("calc", fmt.Sprint(calc))
	}
}

// variables start with what every site has: its own data source, and all of what can be chosen.
func variables(t *testing.T, d grafana.Dashboard) {
	t.Helper()
	labels := d.Labels()
	for _, v := range d.Templating.List {
		if v.IncludeAll && v.Current["value"] != "$__all" || !v.IncludeAll && v.Type != "constant" && v.Current != nil {
			t.Errorf("%s: variable %s starts with %v", d.UID, v.Name, v.Current)
		}
		if _, is := labels[v.Name]; v.Type == "query" && (!is || v.Refresh != 1 && v.Refresh != 2) {
			t.Errorf("%s: variable %s: query %v, refresh %d", d.UID, v.Name, v.Query, v.Refresh)
		}
		if v.Type == "datasource" && v.Query != "prometheus" {
			t.Errorf("%s: variable %s is a data source of type %v", d.UID, v.Name, v.Query)
		}
	}
}

// walk calls f for every key of every object.
func walk(v any, f func(key string, value any)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			f(key, value)
			walk(value, f)
		}
	case []any:
		for _, value := range v {
			walk(value, f)
		}
	}
}

// The examples for provisioning are what Grafana reads, and fit the shipped configuration of Prometheus.
func TestProvisioning(t *testing.T) {
	shipped := dashboards(t)
	t.Parallel()
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type string
			AllowUIUpdates     bool `yaml:"allowUiUpdates"`
			Options            struct{ Path string }
		}
	}
	read(t, "provisioning/dashboards/vxlan_exporter.yml", &dashboards)
	if p := dashboards.Providers; dashboards.APIVersion != 1 || len(p) != 1 || p[0].Type != "file" || p[0].Name == "" ||
		!filepath.IsAbs(p[0].Options.Path) {
		t.Errorf("dashboards: %+v", dashboards)
	}
	for _, d := range shipped { // with one title, folder and file clash
		if d.Title == dashboards.Providers[0].Folder {
			t.Errorf("folder and dashboard are both called %q", d.Title)
		}
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, Type, Access, URL string
			IsDefault               bool              `yaml:"isDefault"`
			JSONData                map[string]string `yaml:"jsonData"`
		}
	}
	read(t, "provisioning/datasources/prometheus.yml", &sources)
	if s := sources.Datasources; sources.APIVersion != 1 || len(s) != 1 || s[0].Type != chosen.Type ||
		s[0].Access != "proxy" || s[0].URL == "" {
		t.Fatalf("data sources: %+v", sources)
	}
	var prometheus struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
	}
	read(t, "../prometheus/prometheus.yml", &prometheus)
	json := sources.Datasources[0].JSONData
	if interval := json["timeInterval"]; interval != prometheus.Global.ScrapeInterval {
		t.Errorf("timeInterval %s; Prometheus scrapes every %s", interval, prometheus.Global.ScrapeInterval)
	}
	// Without them some Grafana 10 ask for all series where the values of a label would do.
	if json["prometheusType"] != "Prometheus" || json["prometheusVersion"] == "" {
		t.Errorf("type %q and version %q of Prometheus", json["prometheusType"], json["prometheusVersion"])
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
