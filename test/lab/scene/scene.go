// Package scene plays a small fleet with the failure in it to a real Prometheus: what the dashboards are tested
// against, and what their pictures show.
package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

// Options of a scene.
type Options struct {
	Exporter string // the exporter's binary
	// folder of the project: configuration and rules in prometheus, Prometheus where monitor.Programs says
	Root     string
	Healthy  bool          // the fixed rules everywhere, and nothing wrong with any exporter
	Interval time.Duration // between scrapes
	Cluster  string        // label of every node; empty: no such label anywhere, as in a site with one cluster
}

// Scene is a running fleet of six nodes on three underlays, and the Prometheus that watches it.
//
//   - node-1 fails and node-2 receives; node-3 fails and node-4 receives behind a firewall that drops INVALID, with the
//     remedy applied to its own device.
//   - node-5's exporter runs without privileges, and so cannot tell what the rules do with the mark. node-6's ends when
//     Hurt is called.
//
// In a healthy one all have the fixed rules and all that they need.
type Scene struct {
	Failing []*lab.Rig // the pairs node-1, node-2 and node-3, node-4
	Network *monitor.Network
	Stack   *monitor.Stack

	rigs      []*lab.Rig
	exporters []*scrape.Exporter
	targets   []monitor.Target
	folder    string
}

// Nodes is how many nodes there are.
const Nodes = 6

const exporterPort = 10059

// New builds the fleet and waits until Prometheus has scraped every node twice. Needs root, and what
// test/lab/install-deps installs.
func New(ctx context.Context, o Options) (*Scene, error) {
	s := &Scene{}
	if err := s.build(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Scene) build(ctx context.Context, o Options) (err error) {
	if s.folder, err = os.MkdirTemp("", "vxlan_exporter-scene-"); err != nil {
		return err
	}
	if s.Network, err = monitor.NewNetwork(); err != nil {
		return err
	}
	for pair := range 3 {
		live := lab.LiveFailure()
		live.Pair = pair
		if pair == 1 {
			live.Receiver = lab.ReceiverFirewalld
		}
		if o.Healthy || pair == 2 {
			live.Rules = lab.RulesFixed
		}
		rig, err := lab.New(live)
		if err != nil {
			return err
		}
		s.rigs = append(s.rigs, rig)
		if live.Rules == lab.RulesOld {
			s.Failing = append(s.Failing, rig)
		}
		for i, node := range []*lab.NS{rig.A, rig.B} {
			var unprivileged []string
			if !o.Healthy && pair == 2 && i == 0 {
				unprivileged = []string{
					"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
					"--bounding-set=-all",
				}
			}
			if err := s.start(ctx, o, node, unprivileged); err != nil {
				return err
			}
		}
	}
	if !o.Healthy {
		if _, err := s.rigs[1].B.Run("ethtool", "-K", lab.Device, "tx-checksum-ip-generic", "off"); err != nil {
			return err
		}
	}
	config, err := s.prometheus(o)
	if err != nil {
		return err
	}
	s.Stack, err = monitor.Start(ctx, s.Network, monitor.Options{
		Programs: monitor.Programs(o.Root), Prometheus: config, Targets: s.targets,
	})
	if err != nil {
		return err
	}
	return s.Stack.WaitScraped(ctx, Nodes, 2)
}

func (s *Scene) start(ctx context.Context, o Options, node *lab.NS, before []string) error {
	address, err := s.Network.Attach(node)
	if err != nil {
		return err
	}
	target := monitor.Target{Labels: map[string]string{"instance": fmt.Sprintf("node-%d:%d", len(s.exporters)+1,
		exporterPort)}}
	target.Address = netip.AddrPortFrom(address, exporterPort)
	if o.Cluster != "" {
		target.Labels["cluster"] = o.Cluster
	}
	command := slices.Concat(before, []string{
		o.Exporter, "--collector.wire", "--conntrack.min-interval=0s",
		"--natrules.min-interval=0s",
	})
	if len(s.exporters)%2 == 1 { // receivers: a sender's probe would make NATed flows before anybody is hurt
		command = append(command, "--collector.path", "--path.interval=5s")
	}
	e, err := scrape.StartAt(ctx, node, target.Address.String(), command[0], command[1:]...)
	if err != nil {
		return err
	}
	s.exporters = append(s.exporters, e)
	s.targets = append(s.targets, target)
	return nil
}

// prometheus is the shipped configuration with another interval.
func (s *Scene) prometheus(o Options) (file string, err error) {
	folder := filepath.Join(o.Root, "prometheus")
	raw, err := os.ReadFile(filepath.Join(folder, "prometheus.yml"))
	if err != nil {
		return "", err
	}
	text := strings.ReplaceAll(string(raw), "_interval: 15s", "_interval: "+o.Interval.String())
	text = strings.ReplaceAll(text, "- rules/", "- "+folder+"/rules/")
	if strings.Count(text, o.Interval.String()) < 2 || !strings.Contains(text, folder) {
		return "", fmt.Errorf("%s/prometheus.yml: not the intervals and rule files that a scene replaces", folder)
	}
	file = filepath.Join(s.folder, "prometheus.yml")
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// Hurt makes a request and two queries from each sender, and on the first call ends node-6's exporter. A failing
// sender's request, or one of the next four, must not be answered within 900 ms, another's must be within 10 s. In a
// healthy fleet nothing ends.
func (s *Scene) Hurt(ctx context.Context) error {
	if n := len(s.exporters); n == Nodes && len(s.Failing) > 0 { // node-6, once
		if err := s.exporters[n-1].Stop(); err != nil {
			return err
		}
		s.exporters = s.exporters[:n-1]
	}
	for i, rig := range s.rigs {
		failing := slices.Contains(s.Failing, rig)
		limit := 10 * time.Second
		if failing {
			limit = 900 * time.Millisecond
		}
		stall, err := request(ctx, rig, limit)
		// The outer source port is a hash of the inner connection. One that meets a flow of before, which was not NATed, is
		// not hurt.
		for try := 1; failing && err == nil && try < 5; try++ {
			stall, err = request(ctx, rig, limit)
		}
		if failing != (err != nil) {
			//nolint:errorlint // nil when it should have failed
			return fmt.Errorf("the request of pair %d, failing %t, took %v: %v", i+1, failing, stall, err)
		}
		if _, err := rig.Query(ctx, 2, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func request(ctx context.Context, rig *lab.Rig, limit time.Duration) (stall time.Duration, err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return rig.Request(limited)
}

// Cured tells that a pair does not fail any more.
func (s *Scene) Cured(rig *lab.Rig) {
	s.Failing = slices.DeleteFunc(s.Failing, func(r *lab.Rig) bool { return r == rig })
}

// Close ends everything and deletes the namespaces.
func (s *Scene) Close() error {
	var errs []error
	if s.Stack != nil {
		errs = append(errs, s.Stack.Stop())
	}
	for _, e := range s.exporters {
		errs = append(errs, e.Stop())
	}
	for _, r := range s.rigs {
		errs = append(errs, r.Close())
	}
	if s.Network != nil {
		errs = append(errs, s.Network.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.folder))...)
}
