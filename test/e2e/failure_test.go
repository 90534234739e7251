package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// enough tells a stall, which lasts until the first SYN timeout of 1 s at the least, from an answer, which takes milliseconds.
const enough = 800 * time.Millisecond

// nodes is a rig with an exporter on each node.
type nodes struct {
	*lab.Rig
	t                *testing.T
	sender, receiver *labtest.Exporter
	wire             *lab.Wire
	guests           map[string]*labtest.NS // other senders, behind the node
}

func newNodes(t *testing.T, o lab.Options, flags ...string) *nodes {
	t.Helper()
	n := newWatched(t, o)
	args := append([]string{
		"--conntrack.min-interval=0s", "--natrules.min-interval=0s", fmt.Sprintf("--vxlan.port=%d", n.Options().Port),
	}, flags...)
	n.sender = labtest.StartExporter(t, n.A, labtest.Binary(t), args...)
	n.receiver = labtest.StartExporter(t, n.B, labtest.Binary(t), args...)
	return n
}

// newWatched builds a rig whose receiver is watched, without exporters.
func newWatched(t *testing.T, o lab.Options) *nodes {
	t.Helper()
	n := &nodes{Rig: labtest.NewRig(t, o), t: t}
	var err error
	if n.wire, err = n.WatchWire(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.wire.Close() })
	return n
}

// fail sends three queries and one request that are lost, and returns how many bad packets arrived at the receiver.
func (n *nodes) fail() (bad float64) {
	n.t.Helper()
	before := n.count()
	if answered, err := n.Query(n.t.Context(), 3, 50*time.Millisecond); err != nil || answered != 0 {
		n.t.Errorf("%d queries answered, %v; want none", answered, err)
	}
	if !n.stalls() {
		n.t.Error("the request did not stall")
	}
	bad = float64(len(n.count().Bad) - len(before.Bad))
	if bad < 4 { // more where a busy machine sends a second SYN
		n.t.Errorf("%g bad packets on the wire; want 4", bad)
	}
	return bad
}

// stalls reports whether a request stalls: it sends a bad packet, and no answer comes.
func (n *nodes) stalls() bool {
	n.t.Helper()
	stalls, err := n.wire.Stalls(n.t.Context(), func(ctx context.Context) error {
		_, err := n.Request(ctx)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return stalls
}

func (n *nodes) count() lab.WireCount {
	n.t.Helper()
	c, err := n.wire.Count()
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// rose checks by how much series rose between two scrapes. A series that is missing from either is an error.
func rose(t *testing.T, before, after scrape.Metrics, want map[string]float64) {
	t.Helper()
	for series, by := range want {
		a, had := before[series]
		b, has := after[series]
		switch {
		case !had || !has:
			t.Errorf("%s: there before %t, after %t; want both", series, had, has)
		case b-a != by:
			t.Errorf("%s rose from %g to %g; want by %g", series, a, b, by)
		}
	}
}

// is checks the values of series in one scrape.
func is(t *testing.T, m scrape.Metrics, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		if got, ok := m[series]; !ok || got != value {
			t.Errorf("%s is %g, there %t; want %g", series, got, ok, value)
		}
	}
}

// series writes a series' name; labels come as key=value, sorted by key.
func series(name string, labels ...string) string {
	m := map[string]string{}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		m[k] = v
	}
	return scrape.Series(name, m)
}

func exposure(variant, state string) string {
	return series("vxlan_device_exposure", "device="+lab.Device, "variant="+variant, "state="+state)
}

func collectorsSucceeded(t *testing.T, e *labtest.Exporter, m scrape.Metrics) {
	t.Helper()
	n := 0
	for _, name := range m.Names() {
		if strings.HasPrefix(name, "vxlan_scrape_collector_success{") {
			n++
			if m[name] != 1 {
				t.Errorf("%s is %g; want 1\n%s", name, m[name], e.Log())
			}
		}
	}
	if n < 5 {
		t.Errorf("%d collectors report success or failure; want at least 5", n)
	}
}

func TestLiveFailure(t *testing.T) {
	t.Parallel()
	for _, o := range []lab.Options{
		{Family: lab.IPv4, Backend: lab.Legacy, Port: 8472},
		{Family: lab.IPv4, Backend: lab.NFT, Port: 4789},
		{Family: lab.IPv6, Backend: lab.Legacy, Port: 8472},
		{Family: lab.IPv6, Backend: lab.NFT, Port: 4789},
	} {
		t.Run(fmt.Sprintf("%s/%s/%d", o.Family, o.Backend, o.Port), func(t *testing.T) {
			t.Parallel()
			live := lab.LiveFailure()
			live.Family, live.Backend, live.Port = o.Family, o.Backend, o.Port
			n := newNodes(t, live)
			family, port := "family="+string(o.Family), fmt.Sprintf("port=%d", o.Port)
			sender, receiver := n.sender.Scrape(), n.receiver.Scrape()
			collectorsSucceeded(t, n.sender, sender)
			collectorsSucceeded(t, n.receiver, receiver)
			is(t, sender, map[string]float64{
				series("vxlan_conntrack_nat_flows", family, port, "nat=snat"): 0,
				exposure("offloaded_checksum", "exposed"):                     1,
			})

			bad := n.fail()
			rose(t, receiver, n.receiver.Scrape(), map[string]float64{
				series("vxlan_host_udp_in_csum_errors_total", family): bad,
				series("vxlan_host_udp_in_errors_total", family):      bad,
				series("vxlan_host_conntrack_invalid_total"):          bad,
				series("vxlan_socket_drops_total", family, port):      0, // connection tracking has judged them before
				series("vxlan_host_tcp_in_csum_errors_total"):         0,
			})
			flows, err := n.OuterNAT()
			if err != nil || len(flows) != 2 {
				t.Fatalf("conntrack(8) lists %v, %v; want the flow of the queries and that of the request", flows, err)
			}
			after := n.sender.Scrape()
			rose(t, sender, after, map[string]float64{
				series("vxlan_conntrack_nat_flows", family, port, "nat=snat"):            float64(len(flows)),
				series("vxlan_conntrack_nat_flows_seen_total", family, port, "nat=snat"): float64(len(flows)),
				series("vxlan_conntrack_nat_flows", family, port, "nat=dnat"):            0,
				series("vxlan_host_udp_in_csum_errors_total", family):                    0,
			})
			is(t, after, map[string]float64{
				exposure("offloaded_checksum", "active"):  1,
				exposure("offloaded_checksum", "exposed"): 0,
			})

			if err := n.SetTxChecksum(false); err != nil {
				t.Fatal(err)
			}
			receiver = n.receiver.Scrape()
			if n.stalls() {
				t.Error("stalled in spite of the remedy")
			}
			rose(t, receiver, n.receiver.Scrape(), map[string]float64{series("vxlan_host_udp_in_csum_errors_total", family): 0})
			is(t, n.sender.Scrape(), map[string]float64{
				exposure("offloaded_checksum", "clear"):                                                       1,
				exposure("offloaded_checksum", "active"):                                                      0,
				series("vxlan_device_feature_active", "device="+lab.Device, "feature=tx-checksum-ip-generic"): 0,
			})
		})
	}
}

// With the fixed rules nothing moves that speaks of the failure.
func TestFixedRules(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Rules = lab.RulesFixed
	n := newNodes(t, o)
	sender, receiver := n.sender.Scrape(), n.receiver.Scrape()
	if n.stalls() {
		t.Error("stalled")
	}
	if answered, err := n.Query(t.Context(), 3, enough); err != nil || answered != 3 {
		t.Errorf("%d of 3 queries answered, %v", answered, err)
	}
	sender2, receiver2 := n.sender.Scrape(), n.receiver.Scrape()
	if flows := sender2[series("vxlan_conntrack_flows", "family=ipv4", "port=8472")]; flows == 0 {
		t.Error("no flow is tracked: nothing was tested")
	}
	for name, scrapes := range map[string][2]scrape.Metrics{"sender": {sender, sender2}, "receiver": {receiver, receiver2}} {
		for _, s := range scrapes[1].Names() {
			telling := contains(s, "csum", "invalid", "nat_flows", "drops", "exposure", "retransmits")
			if telling && strings.HasPrefix(s, "vxlan_") && scrapes[0][s] != scrapes[1][s] {
				t.Errorf("%s: %s moved from %g to %g", name, s, scrapes[0][s], scrapes[1][s])
			}
		}
	}
	is(t, sender2, map[string]float64{
		series("vxlan_conntrack_nat_flows", "family=ipv4", "port=8472", "nat=snat"):            0,
		series("vxlan_conntrack_nat_flows_seen_total", "family=ipv4", "port=8472", "nat=snat"): 0,
		exposure("offloaded_checksum", "active"):                                               0,
	})
}

// Which counter shows the failure depends on what connection tracking does on the receiver.
func TestReceivers(t *testing.T) {
	t.Parallel()
	const (
		errorsTotal = `vxlan_host_udp_in_csum_errors_total{family="ipv4"}`
		invalid     = "vxlan_host_conntrack_invalid_total"
		drops       = `vxlan_socket_drops_total{family="ipv4",port="8472"}`
	)
	for receiver, counts := range map[lab.Receiver][]string{ // others stay
		lab.ReceiverNone:      {errorsTotal, drops},
		lab.ReceiverTrack:     {errorsTotal, invalid},
		lab.ReceiverFirewalld: {invalid},
	} {
		t.Run(string(receiver), func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			o.Receiver = receiver
			n := newNodes(t, o)
			before := n.receiver.Scrape()
			want, bad := map[string]float64{errorsTotal: 0, invalid: 0, drops: 0}, n.fail()
			for _, counter := range counts {
				want[counter] = bad
			}
			rose(t, before, n.receiver.Scrape(), want)
		})
	}
}

func TestOpenFilesUnchanged(t *testing.T) {
	t.Parallel()
	n := newNodes(t, lab.LiveFailure())
	n.sender.Scrape()
	before, err := n.sender.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		n.sender.Scrape()
	}
	after, err := n.sender.OpenFiles()
	if err != nil || after != before {
		t.Errorf("%d open files after five scrapes, %v; want %d as before", after, err, before)
	}
}

func contains(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}
