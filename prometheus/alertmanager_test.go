//go:build e2e

package prometheus_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
)

// hasten makes minutes of prometheus/alertmanager.yml 3 seconds: a page comes after 0.5 s and is looked at again every
// 6, a ticket after 3 s and every 15.
const hasten = 20

// One cause wakes one person once, as told by the real Alertmanager with the shipped configuration. The cases share it,
// each in clusters of its own, which no group and no inhibition spans.
func TestOneCausePagesOnce(t *testing.T) {
	t.Parallel()
	d := &desk{t: t, Stack: labtest.StartMonitor(t, labtest.NewNetwork(t),
		monitor.Options{Alertmanager: "alertmanager.yml", Hasten: hasten})}

	const culprits = 50
	var many, tickets []monitor.Alert
	for i := range culprits {
		node := fmt.Sprintf("node-%02d", i)
		many = append(many, page("many", node))
		tickets = append(tickets, alert("VxlanOuterNat", "warning", "outer_nat", "many", node),
			alert("VxlanDeviceExposed", "info", "outer_nat", "many", node))
	}
	told := alert("VxlanOuterNat", "warning", "outer_nat", "ticket-first", "a")
	resolved := page("resolved", "a")

	// Gone and come again between two looks.
	d.send(page("flapping", "a"))
	d.wait("a page", func() bool { return d.count("page", "flapping") == 1 })
	d.send(ended(page("flapping", "a")))
	time.Sleep(200 * time.Millisecond)
	d.send(page("flapping", "a"))

	d.send(many...)
	d.send(tickets...)
	d.send(page("two-1", "a"), page("two-2", "a"))
	d.send(page("causes", "a"), alert("VxlanPathSpoilsChecksums", "critical", "tunnel_offload", "causes", "a"))
	d.send(told, alert("VxlanDeviceExposed", "info", "outer_nat", "info", "a"))
	// A Prometheus that watches one cluster has no such label, and may send to the Alertmanager of one that watches
	// several.
	d.send(page("", "a"), alert("VxlanOuterNat", "warning", "outer_nat", "", "b"),
		alert("VxlanExporterDown", "warning", "exporter", "", "c"),
		alert("VxlanOuterNat", "warning", "outer_nat", "other", "d"))
	// Two replicas send the same alert; they differ in what they rendered.
	replica := page("replicas", "a")
	replica.Annotations = map[string]string{"description": "as the other one evaluated it, a second later"}
	d.send(page("replicas", "a"))
	d.send(replica)
	d.send(page("joined", "a"), resolved)
	d.wait("a page in each cluster that fails", func() bool {
		return d.count("page", "many") == 1 && d.count("page", "two-1") == 1 && d.count("page", "two-2") == 1 &&
			d.count("page", "causes") == 2 &&
			d.count("page", "") == 1 && d.count("page", "joined") == 1 && d.count("page", "resolved") == 1
	})

	d.send(page("joined", "b"), ended(resolved))
	d.wait("tickets", func() bool {
		return d.count("ticket", "ticket-first") == 1 && d.count("ticket", "other") == 1 && d.count("ticket", "") == 1
	})
	// The page comes when the ticket was told already.
	d.send(page("ticket-first", "a"), alert("VxlanMasqueradeMarkKept", "warning", "outer_nat", "ticket-first", "b"))
	d.wait("the page after the ticket", func() bool { return d.count("page", "ticket-first") == 1 })
	// Alertmanager does not tell the end of what is muted: docs/RUNBOOK.md says so.
	d.send(ended(told))
	d.wait("the second culprit and the end", func() bool {
		return d.count("page", "joined") == 2 &&
			d.count("page", "resolved") == 2
	})
	// Another look at everything, that of tickets included, tells nothing new.
	time.Sleep(15*time.Second + 3*time.Second)

	d.expect(map[string][]string{
		"many": {"page firing 50"}, "two-1": {"page firing 1"}, "two-2": {"page firing 1"},
		"causes":       {"page firing 1", "page firing 1"},
		"ticket-first": {"page firing 1", "ticket firing 1"}, "": {"page firing 1", "ticket firing 1"},
		"other":    {"ticket firing 1"},
		"replicas": {"page firing 1"}, "joined": {"page firing 1", "page firing 2"}, "flapping": {"page firing 1"},
		"resolved": {"page firing 1", "page resolved 1"},
	})
}

// desk is where all that people are told arrives.
type desk struct {
	*monitor.Stack

	t *testing.T
}

func page(cluster, instance string) monitor.Alert {
	return alert("VxlanChecksumFailure", "critical", "outer_nat", cluster, instance)
}

func alert(name, severity, cause, cluster, instance string) monitor.Alert {
	labels := map[string]string{
		"alertname": name, "severity": severity, "cause": cause, "job": "vxlan",
		"instance": instance,
	}
	if cluster != "" {
		labels["cluster"] = cluster
	}
	return monitor.Alert{Labels: labels, Annotations: map[string]string{"summary": "test"}}
}

// ended is the alert's end.
func ended(a monitor.Alert) monitor.Alert {
	a.EndsAt = time.Now()
	return a
}

// send gives alerts that begin now. One that began longer than group_wait ago would be told without waiting for the
// others.
func (d *desk) send(alerts ...monitor.Alert) {
	d.t.Helper()
	now := time.Now()
	for i := range alerts {
		alerts[i].StartsAt = now
		if alerts[i].EndsAt.IsZero() {
			alerts[i].EndsAt = now.Add(time.Hour)
		} else {
			alerts[i].EndsAt = now
		}
	}
	if err := d.Send(d.t.Context(), alerts...); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) notifications() []monitor.Notification {
	d.t.Helper()
	all, err := d.Webhook.Notifications()
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (d *desk) count(receiver, cluster string) (n int) {
	for _, got := range d.notifications() {
		if got.Receiver == receiver && got.GroupLabels["cluster"] == cluster {
			n++
		}
	}
	return n
}

func (d *desk) wait(what string, done func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			d.t.Fatalf("%s: not within a minute; told were %v", what, d.told())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// told lists receiver, status and number of alerts of each notification, by cluster.
func (d *desk) told() map[string][]string {
	told := map[string][]string{}
	for _, n := range d.notifications() {
		cluster := n.GroupLabels["cluster"]
		told[cluster] = append(told[cluster], fmt.Sprintf("%s %s %d", n.Receiver, n.Status, len(n.Alerts)))
	}
	for _, list := range told {
		slices.Sort(list)
	}
	return told
}

func (d *desk) expect(want map[string][]string) {
	d.t.Helper()
	got := d.told()
	for _, cluster := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(got[cluster], want[cluster]) {
			d.t.Errorf("cluster %q was told %q; want %q", cluster, got[cluster], want[cluster])
		}
		delete(got, cluster)
	}
	if len(got) > 0 {
		d.t.Errorf("told besides: %v", got)
	}
}
