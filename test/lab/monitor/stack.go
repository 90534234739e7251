package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"

	"vxlan_exporter/test/lab/daemon"
)

// Where the servers listen, in the monitoring namespace.
const (
	prometheusAddress   = "127.0.0.1:9090"
	alertmanagerAddress = "127.0.0.1:9093"
)

// Options say what runs.
type Options struct {
	Programs string // folder with prometheus and alertmanager: see the function Programs
	// configuration file; its rule files are those it names; empty: none runs, and alerts are sent with Send
	Prometheus string
	// configuration file; empty: neither Alertmanager nor webhook, and Prometheus' setting for it is not used
	Alertmanager string
	Hasten       int // divides the waits of Alertmanager's routes; 0: they are as they stand
	Targets      []Target
}

// Stack is a running Prometheus, with Alertmanager and a webhook if so chosen.
type Stack struct {
	Prometheus, Alertmanager *daemon.Daemon
	Webhook                  *Webhook

	folder string
}

// Programs is the folder of the servers to test with, for a project in root: what VXLAN_TEST_PROGRAMS names, or where
// test/lab/install-deps puts Debian's.
func Programs(root string) string {
	if folder := os.Getenv("VXLAN_TEST_PROGRAMS"); folder != "" {
		return folder
	}
	return filepath.Join(root, ".cache", "bin")
}

// Start runs the stack in the network and waits until it is ready.
func Start(ctx context.Context, n *Network, o Options) (*Stack, error) {
	folder, err := os.MkdirTemp("", "vxlan_exporter-monitor-")
	if err != nil {
		return nil, err
	}
	s := &Stack{folder: folder}
	if err := s.start(ctx, n, o); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, n *Network, o Options) (err error) {
	programs, err := filepath.Abs(o.Programs)
	if err != nil {
		return err
	}
	var config []byte
	if o.Prometheus != "" {
		if o.Prometheus, err = filepath.Abs(o.Prometheus); err != nil {
			return err
		}
		if config, err = prometheusConfig(o.Prometheus, o.Targets); err != nil {
			return err
		}
	}
	if o.Alertmanager != "" {
		if s.Webhook, err = listen(ctx, n.NS); err != nil {
			return err
		}
		if err := s.startAlertmanager(ctx, n, programs, o.Alertmanager, max(o.Hasten, 1)); err != nil {
			return err
		}
	}
	if o.Prometheus == "" {
		return nil
	}
	file := filepath.Join(s.folder, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		return err
	}
	s.Prometheus, err = daemon.Start(ctx, n.NS, s.server("Prometheus", prometheusAddress),
		filepath.Join(programs, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(s.folder, "tsdb"),
		"--web.listen-address="+prometheusAddress)
	return err
}

func (s *Stack) startAlertmanager(ctx context.Context, n *Network, programs, file string, hasten int) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	config, err := alertmanagerConfig(file, hasten)
	if err != nil {
		return err
	}
	file = filepath.Join(s.folder, "alertmanager.yml")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		return err
	}
	args := []string{
		filepath.Join(programs, "alertmanager"), "--config.file=" + file, "--storage.path=" +
			filepath.Join(s.folder, "alertmanager"),
		// alone, and no time spent on looking for others
		"--web.listen-address=" + alertmanagerAddress, "--cluster.listen-address=",
	}
	if args, err = s.withTemplates(programs, args); err != nil {
		return err
	}
	s.Alertmanager, err = daemon.Start(ctx, n.NS, s.server("Alertmanager", alertmanagerAddress), args...)
	return err
}

func (s *Stack) server(name, address string) daemon.Options {
	return daemon.Options{Name: name, Address: address, Ready: "/-/ready", Timeout: time.Minute, Folder: s.folder}
}

// withTemplates shows Debian's Alertmanager its templates where it expects them. ip netns exec gives a program mounts
// of its own (ip-netns(8)), so nobody else sees this one. Alertmanager as its project builds it has the templates
// inside, and no files.
func (s *Stack) withTemplates(programs string, args []string) ([]string, error) {
	const installed = "prometheus/alertmanager" // below /usr/share
	if _, err := os.Stat("/usr/share/" + installed + "/default.tmpl"); err == nil {
		return args, nil
	}
	share := filepath.Join(s.folder, "share")
	if err := os.MkdirAll(filepath.Join(share, installed), 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"default.tmpl", "email.tmpl"} {
		text, err := os.ReadFile(filepath.Join(programs, name))
		if errors.Is(err, fs.ErrNotExist) {
			return args, nil
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(share, installed, name), text, 0o644); err != nil {
			return nil, err
		}
	}
	return append([]string{"sh", "-c", `mount --bind "$0" /usr/share && exec "$@"`, share}, args...), nil
}

// Stop ends what runs, Prometheus first, and removes its files.
func (s *Stack) Stop() error {
	var errs []error
	for _, d := range []*daemon.Daemon{s.Prometheus, s.Alertmanager} {
		if d != nil {
			errs = append(errs, d.Stop())
		}
	}
	if s.Webhook != nil {
		errs = append(errs, s.Webhook.close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.folder))...)
}

// Send gives Alertmanager alerts as Prometheus does. One that has ended has an end
// (https://prometheus.io/docs/alerting/latest/alerts_api/).
func (s *Stack) Send(ctx context.Context, alerts ...Alert) error {
	var list []map[string]any
	for _, a := range alerts {
		alert := map[string]any{"labels": a.Labels, "annotations": a.Annotations, "startsAt": a.StartsAt}
		if !a.EndsAt.IsZero() {
			alert["endsAt"] = a.EndsAt
		}
		list = append(list, alert)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if answer, err := s.Alertmanager.Post(ctx, "/api/v2/alerts", body); err != nil {
		return fmt.Errorf("send alerts: %w: %s", err, answer)
	}
	return nil
}

// Query evaluates an expression that gives a vector.
func (s *Stack) Query(ctx context.Context, promQL string) (model.Vector, error) {
	body, err := s.Prometheus.Get(ctx, "/api/v1/query?query="+url.QueryEscape(promQL))
	if err != nil {
		return nil, fmt.Errorf("query %s: %w: %s", promQL, err, body)
	}
	var answer struct {
		Data struct {
			Type   string       `json:"resultType"`
			Result model.Vector `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("query %s: %w: %s", promQL, err, body)
	}
	if answer.Data.Type != model.ValVector.String() {
		return nil, fmt.Errorf("query %s: a %s; want a vector", promQL, answer.Data.Type)
	}
	return answer.Data.Result, nil
}

// WaitScraped waits until every target of the job vxlan was scraped, and successfully, at least times times.
func (s *Stack) WaitScraped(ctx context.Context, targets, times int) error {
	expr := fmt.Sprintf(`sum_over_time(up{job="vxlan"}[1h]) >= %d`, times)
	for {
		done, err := s.Query(ctx, expr)
		if err == nil && len(done) == targets {
			return nil
		}
		select {
		case <-ctx.Done():
			down, queryErr := s.Query(context.WithoutCancel(ctx), `up{job="vxlan"} == 0`)
			return fmt.Errorf("%d of %d targets were scraped %d times, %v are down: %w", len(done), targets, times, down,
				errors.Join(ctx.Err(), err, queryErr))
		case <-time.After(500 * time.Millisecond):
		}
	}
}
