//go:build e2e

package page_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

// The receivers of prometheus/alertmanager.yml.
const (
	pager  = "page"
	ticket = "ticket"
)

// result is what came of a scenario.
type result struct {
	did             string        // what happened, for the table
	stall           time.Duration // of the request
	paged, resolved time.Duration // after the first bad packet, and after the remedy
	text            string        // of the page
	alerts          []string      // seen by Prometheus
}

// waitFor returns the cluster's first notification of a kind.
func (c *site) waitFor(
	t *testing.T, most time.Duration, what string, kind func(monitor.Notification) bool,
) monitor.Notification {
	t.Helper()
	for start := time.Now(); time.Since(start) < most; time.Sleep(50 * time.Millisecond) {
		all, err := c.stack.Webhook.Notifications()
		must(t, err)
		for _, n := range all {
			if n.GroupLabels["cluster"] == c.name && kind(n) {
				return n
			}
		}
	}
	t.Fatalf("%s did not come within %v; alerts: %v", what, most, c.alerts(t))
	return monitor.Notification{}
}

func isPage(status string) func(monitor.Notification) bool {
	return func(n monitor.Notification) bool { return n.Receiver == pager && n.Status == status }
}

// judge checks all that the cluster's people were told in the whole run.
func (c *site) judge(t *testing.T, all []monitor.Notification) {
	t.Helper()
	var pages, tickets []monitor.Notification
	for _, n := range all {
		if n.GroupLabels["cluster"] != c.name {
			continue
		}
		critical := slices.ContainsFunc(n.Alerts, func(a monitor.Alert) bool { return a.Labels["severity"] == "critical" })
		if critical != (n.Receiver == pager) {
			t.Errorf("%s: receiver %s was told:\n%s", c.name, n.Receiver, text(n))
		}
		if critical {
			pages = append(pages, n)
		} else {
			tickets = append(tickets, n)
		}
	}
	c.result.alerts = c.alerts(t)
	if c.failure == nil {
		for _, n := range pages {
			t.Errorf("%s: paged:\n%s", c.name, text(n))
		}
		for _, a := range c.result.alerts {
			if strings.Contains(a, "VxlanChecksumFailure") || strings.Contains(a, "VxlanPathSpoilsChecksums") {
				t.Errorf("%s: Prometheus had %s", c.name, a)
			}
		}
		c.judgeTickets(t, tickets)
		return
	}
	// One cause, one group, told once and ended once.
	if len(pages) != 2 || pages[0].Status != "firing" || pages[1].Status != "resolved" ||
		pages[0].GroupKey != pages[1].GroupKey {
		t.Errorf("%s: %d notifications went to the pager; want one page and its end", c.name, len(pages))
		for _, n := range pages {
			t.Logf("%s %s", n.Status, text(n))
		}
	}
	// The page mutes tickets until its alert ends. Its end is told up to a group_interval later; a ticket may come before
	// that, since the remedy leaves the rules as they are.
	if len(pages) != 2 || len(pages[1].Alerts) == 0 {
		return
	}
	for _, n := range tickets {
		if n.Status == "firing" && n.Received.After(pages[0].Received) && n.Received.Before(pages[1].Alerts[0].EndsAt) {
			t.Errorf("%s: while it paged, a ticket:\n%s", c.name, text(n))
		}
	}
}

func (c *site) judgeTickets(t *testing.T, tickets []monitor.Notification) {
	t.Helper()
	told := map[string]bool{}
	for _, n := range tickets {
		for _, a := range n.Alerts {
			told[a.Labels["alertname"]] = true
			if strings.Contains(fmt.Sprint(a.Annotations), "<error") {
				t.Errorf("%s: %s", c.name, text(n))
			}
		}
	}
	if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, c.tickets) {
		t.Errorf("%s: tickets %v; want %v", c.name, got, c.tickets)
	}
}

// alerts lists what Prometheus had in this cluster, fired or only pending.
func (c *site) alerts(t *testing.T) []string {
	t.Helper()
	v, err := c.stack.Query(t.Context(),
		fmt.Sprintf(`max by (alertname, alertstate) (max_over_time(ALERTS{cluster=%q}[20m]))`, c.name))
	must(t, err)
	fired, pending := map[string]bool{}, map[string]bool{}
	for _, s := range v {
		name := string(s.Metric["alertname"])
		if s.Metric["alertstate"] == "firing" {
			fired[name] = true
		} else {
			pending[name] = true
		}
	}
	list := slices.Sorted(maps.Keys(fired))
	for _, name := range slices.Sorted(maps.Keys(pending)) {
		if !fired[name] {
			list = append(list, "("+name+")")
		}
	}
	return list
}

// rulesEvaluated checks that Prometheus could evaluate every rule every time, and told Alertmanager everything.
func rulesEvaluated(t *testing.T, stack *monitor.Stack) {
	t.Helper()
	body, err := stack.Prometheus.Get(t.Context(), "/metrics")
	must(t, err)
	m, err := scrape.Parse(bytes.NewReader(body))
	must(t, err)
	evaluations := 0.0
	for _, series := range m.Names() {
		name, _, _ := strings.Cut(series, "{")
		switch name {
		case "prometheus_rule_evaluations_total":
			evaluations += m[series]
		case "prometheus_rule_evaluation_failures_total", "prometheus_notifications_errors_total",
			"prometheus_notifications_dropped_total":
			if m[series] != 0 {
				t.Errorf("%s is %g\n%s", series, m[series], stack.Prometheus.Log())
			}
		}
	}
	if evaluations < 100 {
		t.Errorf("%g evaluations of rules", evaluations)
	}
}

// wants checks what Prometheus has recorded of this cluster; format holds %q for its name.
func (c *site) wants(t *testing.T, want float64, format string) {
	t.Helper()
	expr := fmt.Sprintf(format, c.name)
	got := 0.0
	// two scrapes and some haste of others
	for start := time.Now(); time.Since(start) < 40*time.Second; time.Sleep(time.Second) {
		v, err := c.stack.Query(t.Context(), expr)
		must(t, err)
		if len(v) == 1 {
			got = float64(v[0].Value)
		}
		if got == want {
			return
		}
	}
	t.Errorf("%s is %g; want %g", expr, got, want)
}

// text is a notification as a person reads it.
func text(n monitor.Notification) string {
	var b strings.Builder
	for _, a := range n.Alerts {
		fmt.Fprintf(&b, "[%s] %s %v\n", a.Status, a.Labels["alertname"], a.Labels)
		for _, k := range slices.Sorted(maps.Keys(a.Annotations)) {
			fmt.Fprintf(&b, "    %s: %s\n", k, a.Annotations[k])
		}
	}
	return b.String()
}
