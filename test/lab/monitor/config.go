package monitor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Target is an exporter to scrape.
type Target struct {
	Address netip.AddrPort
	Labels  map[string]string // of the target; an instance among them replaces the address as the label
}

// prometheusConfig is the shipped configuration file with other targets: the job called vxlan gets the given ones,
// every Alertmanager becomes ours. Everything else stays as it is, relative paths aside.
func prometheusConfig(file string, targets []Target) ([]byte, error) {
	return rewrite(file, func(config map[string]any) error {
		for i, pattern := range list(config["rule_files"]) {
			config["rule_files"].([]any)[i] = absolute(file, pattern)
		}
		found := false
		for _, job := range list(config["scrape_configs"]) {
			job, ok := job.(map[string]any)
			if !ok || job["job_name"] != "vxlan" {
				continue
			}
			found = true
			static := []any{}
			for _, t := range targets {
				static = append(static, map[string]any{"targets": []string{t.Address.String()}, "labels": t.Labels})
			}
			discover(job, static)
		}
		if !found {
			return errors.New("no scrape job called vxlan")
		}
		alerting, _ := config["alerting"].(map[string]any)
		alertmanagers := list(alerting["alertmanagers"])
		if len(alertmanagers) == 0 {
			return errors.New("no alertmanagers")
		}
		for _, am := range alertmanagers {
			am, ok := am.(map[string]any)
			if !ok {
				return errors.New("alertmanagers: not a list of mappings")
			}
			discover(am, []any{map[string]any{"targets": []string{alertmanagerAddress}}})
		}
		return nil
	})
}

// alertmanagerConfig is the shipped configuration file with our webhook in place of the site's: its URL, and the
// receiver's name. What its routes wait for is divided.
func alertmanagerConfig(file string, hasten int) ([]byte, error) {
	return rewrite(file, func(config map[string]any) error {
		if err := hastenRoute(config["route"], hasten); err != nil {
			return err
		}
		for i, pattern := range list(config["templates"]) {
			config["templates"].([]any)[i] = absolute(file, pattern)
		}
		hooks := 0
		for _, receiver := range list(config["receivers"]) {
			receiver, ok := receiver.(map[string]any)
			if !ok {
				return errors.New("receivers: not a list of mappings")
			}
			for key, configs := range receiver {
				switch key {
				case "name":
				case "webhook_configs":
					for _, hook := range list(configs) {
						hook, ok := hook.(map[string]any)
						if !ok {
							return errors.New("webhook_configs: not a list of mappings")
						}
						hook["url"] = fmt.Sprintf("http://%s/%s", webhookAddress, receiver["name"])
						hooks++
					}
				default:
					return fmt.Errorf("receiver %v: %s is not known here", receiver["name"], key)
				}
			}
		}
		if hooks == 0 {
			return errors.New("no receiver has a webhook")
		}
		return nil
	})
}

// hastenRoute divides the waits of a route and of those below it.
func hastenRoute(route any, by int) error {
	r, ok := route.(map[string]any)
	if !ok {
		return errors.New("a route is no mapping")
	}
	for _, wait := range []string{"group_wait", "group_interval", "repeat_interval"} {
		text, ok := r[wait].(string)
		if !ok {
			continue
		}
		d, err := model.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %w", wait, err)
		}
		r[wait] = model.Duration(time.Duration(d) / time.Duration(by)).String()
	}
	for _, below := range list(r["routes"]) {
		if err := hastenRoute(below, by); err != nil {
			return err
		}
	}
	return nil
}

// discover makes static targets the only ones.
func discover(config map[string]any, static []any) {
	for key := range config {
		if strings.HasSuffix(key, "_sd_configs") {
			delete(config, key)
		}
	}
	config["static_configs"] = static
}

func rewrite(file string, change func(map[string]any) error) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := yaml.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := change(config); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return yaml.Marshal(config)
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// absolute is a path that a configuration file names, which is relative to the file.
func absolute(file string, path any) string {
	p := fmt.Sprint(path)
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(file), p)
}
