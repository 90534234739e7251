//go:build e2e

package grafana_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/grafana"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scene"
	"vxlan_exporter/test/lab/scrape"
)

// interval between scrapes: a second is too short for a busy machine.
const interval = 2 * time.Second

// answer is one series of a query, at its last moment.
type answer struct {
	Metric map[string]string
	Value  float64
}

// stage is a scene that plays, with its dashboards.
type stage struct {
	*scene.Scene
	t     *testing.T
	began time.Time
}

func play(t *testing.T, o scene.Options) *stage {
	t.Helper()
	root, err := scrape.Root()
	if err != nil {
		t.Fatal(err)
	}
	labtest.NeedNamespaces(t)
	labtest.NeedRoot(t, "an exporter runs as another user")
	o.Root, o.Interval, o.Exporter = root, interval, labtest.PublicExporter(t)
	s := &stage{t: t, began: time.Now()}
	if s.Scene, err = scene.New(t.Context(), o); err != nil {
		t.Fatalf("this test needs root, network namespaces and what make deps installs: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// hurt plays for some rounds, with two scrapes between them.
func (s *stage) hurt(rounds int) {
	s.t.Helper()
	for range rounds {
		if err := s.Hurt(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(2 * interval)
	}
}

func (s *stage) get(path string, values url.Values, into any) error {
	body, err := s.Stack.Prometheus.Get(context.WithoutCancel(s.t.Context()), path+"?"+values.Encode())
	if err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	return json.Unmarshal(body, into)
}

// ask sends a query as Grafana does.
func (s *stage) ask(q grafana.Query, instance string) ([]answer, error) {
	now := time.Now()
	expr, step := grafana.View{Span: now.Sub(s.began) + interval, Scrape: interval, Instance: instance}.Fill(q)
	seconds := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	var got struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
				Values [][2]any
			}
		}
	}
	path, values := "/api/v1/query", url.Values{"query": {expr}, "time": {seconds(now)}}
	if q.Over {
		path, values = "/api/v1/query_range", url.Values{
			"query": {expr}, "start": {seconds(s.began)}, "end": {seconds(now)},
			"step": {step.String()},
		}
	}
	if err := s.get(path, values, &got); err != nil {
		return nil, err
	}
	var all []answer
	for _, r := range got.Data.Result {
		if n := len(r.Values); n > 0 {
			r.Value = r.Values[n-1]
		}
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		if !math.IsNaN(v) {
			all = append(all, answer{r.Metric, v})
		}
	}
	return all, nil
}

// at is the query of a panel.
func (s *stage) at(uid, title, ref string) grafana.Query {
	s.t.Helper()
	for _, d := range dashboards(s.t) {
		for _, q := range d.Queries() {
			if q.Where == uid+": "+title+": "+ref {
				return q
			}
		}
	}
	s.t.Fatalf("no query %s of %q on %s", ref, title, uid)
	return grafana.Query{}
}

// becomes waits until a panel's values are what they should be. On a busy machine a scrape may fail now and then.
func (s *stage) becomes(uid, title, ref, instance string, want ...float64) {
	s.t.Helper()
	q := s.at(uid, title, ref)
	var got []float64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(interval) {
		answers, err := s.ask(q, instance)
		if err != nil {
			s.t.Fatalf("%s: %v", q.Where, err)
		}
		got = nil
		for _, a := range answers {
			got = append(got, a.Value)
		}
		if slices.Equal(got, want) {
			return
		}
	}
	s.t.Errorf("%s of %q: %v; want %v", q.Where, instance, got, want)
}

const (
	sender, receiver = "node-1:10059", "node-2:10059"
	patience         = time.Minute
)

// In the failing fleet every query of every panel has data, and the first row says what is so.
func TestFailingFleet(t *testing.T) {
	t.Parallel()
	s := play(t, scene.Options{})
	hurtAt := time.Now()
	s.hurt(3)
	s.becomes("vxlan-fleet", "Is it happening?", "A", "", 9)
	s.becomes("vxlan-fleet", "Nodes that NAT VXLAN", "A", "", 2)
	s.becomes("vxlan-fleet", "Nodes that suffer", "A", "", 2)     // node-4 is known by its packet capture alone
	s.becomes("vxlan-fleet", "Nodes that cannot see", "A", "", 2) // node-5 lacks privileges, node-6's exporter ended
	s.becomes("vxlan-node", "This node", "A", sender, 3)
	s.alerted()
	s.allHaveData()
	s.formats()
	s.culprits(hurtAt)
	s.peers()
	for _, rig := range s.Failing {
		if err := rig.SetTxChecksum(false); err != nil {
			t.Fatal(err)
		}
	}
	s.becomes("vxlan-node", "This node", "A", sender, 0)
	s.becomes("vxlan-fleet", "Who causes it, and what to type there", "C", "", 0, 0) // still listed, and clear
}

// allHaveData goes on hurting until every query of every panel has had data, of some node.
func (s *stage) allHaveData() {
	s.t.Helper()
	var missing []grafana.Query
	for _, d := range dashboards(s.t) {
		missing = append(missing, d.Queries()...)
	}
	// These packets are sent where others are lost, and the probes of this fleet look from receivers, which lose none.
	missing = slices.DeleteFunc(missing, func(q grafana.Query) bool {
		return strings.Contains(q.Expr, `mark="masquerade",checksum="software"`)
	})
	// Alerts of single nodes are looked at each minute, and fire after another.
	for deadline := time.Now().Add(4 * patience); len(missing) > 0 && time.Now().Before(deadline); {
		s.hurt(1)
		missing = slices.DeleteFunc(missing, func(q grafana.Query) bool {
			instances := []string{""}
			if strings.HasPrefix(q.Where, "vxlan-node") {
				instances = []string{sender, receiver, "node-4:10059"}
			}
			n := 0
			for _, instance := range instances {
				got, err := s.ask(q, instance)
				if err != nil {
					s.t.Errorf("%s of %q: %v", q.Where, instance, err)
				}
				n += len(got)
			}
			return n > 0
		})
	}
	for _, q := range missing {
		s.t.Errorf("%s: no data while the fleet fails: %s", q.Where, q.Expr)
	}
}

// alerted waits for the page.
func (s *stage) alerted() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(interval) {
		v, err := s.Stack.Query(s.t.Context(),
			`ALERTS{alertname="VxlanChecksumFailure",alertstate="firing"}`)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(v) > 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("VxlanChecksumFailure does not fire")
		}
	}
}

// formats sends every query through Prometheus' own parser and printer.
func (s *stage) formats() {
	s.t.Helper()
	for _, d := range dashboards(s.t) {
		for _, q := range d.Queries() {
			var printed struct{ Data string }
			expr, _ := grafana.View{Span: time.Hour, Scrape: 15 * time.Second, Instance: sender}.Fill(q)
			if err := s.get("/api/v1/format_query", url.Values{"query": {expr}}, &printed); err != nil || printed.Data == "" {
				s.t.Errorf("%s: %v: %s", q.Where, err, expr)
			}
		}
	}
}

// culprits holds the table of the first row against what was done.
func (s *stage) culprits(hurtAt time.Time) {
	s.t.Helper()
	const title = "Who causes it, and what to type there"
	want := map[string]map[string]string{
		"A": {"device": "flannel.1", "port": "8472"},
		"B": {
			"device": "flannel.1", "variant": "offloaded_checksum",
			"command": "ethtool -K flannel.1 tx-checksum-ip-generic off",
		},
		"C": {"device": "flannel.1"},
		"D": {"device": "flannel.1"},
	}
	for _, ref := range []string{"A", "B", "C", "D"} {
		got, err := s.ask(s.at("vxlan-fleet", title, ref), "")
		if err != nil || len(got) != 2 {
			s.t.Fatalf("culprits, query %s: %v, %v; want node-1 and node-3", ref, got, err)
		}
		seen := map[string]bool{}
		for _, a := range got {
			seen[a.Metric["instance"]] = true
			for label, value := range want[ref] {
				if a.Metric[label] != value {
					s.t.Errorf("culprits, query %s: %s is %q; want %q", ref, label, a.Metric[label], value)
				}
			}
			switch since := time.UnixMilli(int64(a.Value)); {
			case ref == "D" && (since.Before(hurtAt.Add(-interval)) || since.After(hurtAt.Add(patience))):
				s.t.Errorf("%s since %v; the first request was at %v", a.Metric["instance"], since, hurtAt)
			case ref == "C" && a.Value != 3, a.Value <= 0:
				s.t.Errorf("culprits, query %s: %g", ref, a.Value)
			}
		}
		if !seen[sender] || !seen["node-3:10059"] {
			s.t.Errorf("culprits, query %s: %v", ref, got)
		}
	}
}

// peers holds the table of bad packets on the wire against what was done: the receivers' probes accuse the senders,
// each once, and no probe accuses a receiver.
func (s *stage) peers() {
	s.t.Helper()
	got, err := s.ask(s.at("vxlan-fleet", "Bad packets on the wire: who sent them to whom", "A"), "")
	if err != nil {
		s.t.Fatal(err)
	}
	var rows []string
	for _, a := range got {
		rows = append(rows, fmt.Sprint(a.Metric["instance"], " ", a.Metric["peer"], " ", a.Metric["variant"], " ",
			a.Metric["sender"], " ", a.Value > 0))
	}
	slices.Sort(rows)
	want := []string{
		receiver + " 192.168.77.1 offloaded_checksum " + sender + " true",
		"node-4:10059 192.168.77.3 offloaded_checksum node-3:10059 true",
	}
	if !slices.Equal(rows, want) {
		s.t.Errorf("bad packets on the wire: %q; want %q", rows, want)
	}
}

// In a healthy fleet, of a cluster with a name, no query fails and the first row says that all is well.
func TestHealthyFleet(t *testing.T) {
	t.Parallel()
	s := play(t, scene.Options{Healthy: true, Cluster: "eu-1"})
	s.hurt(2)
	for _, d := range dashboards(t) {
		for _, q := range d.Queries() {
			if _, err := s.ask(q, sender); err != nil {
				t.Errorf("%s: %v", q.Where, err)
			}
		}
	}
	for _, title := range []string{
		"Is it happening?", "Nodes that suffer", "Nodes that NAT VXLAN",
		"Nodes that cannot see",
	} {
		s.becomes("vxlan-fleet", title, "A", "", 0)
	}
	s.becomes("vxlan-node", "This node", "A", sender, 0)
	for _, title := range []string{
		"Who causes it, and what to type there", "Who suffers, the 100 worst",
		"Bad packets on the wire: who sent them to whom", "Exposed or unknown now, the first 100",
		"Exporters that went away in the shown time, the first 100", "Collectors that fail, the first 100",
		"Devices that differ from their cluster's majority, the first 100",
		"Nodes that keep the masquerade mark, the first 100",
	} {
		if got, err := s.ask(s.at("vxlan-fleet", title, "A"), ""); err != nil || len(got) > 0 {
			t.Errorf("%q lists %v, %v", title, got, err)
		}
	}
}
