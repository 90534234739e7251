//go:build e2e

package page_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

const (
	pageWithin     = 60 * time.Second // of the first bad packet
	resolvedWithin = 8 * time.Minute  // of the remedy: 5 that the alert looks back and is held, and 2 of group_interval
)

func TestPage(t *testing.T) {
	root, err := scrape.Root()
	must(t, err)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 14*time.Minute)
	defer cancel()
	network := labtest.NewNetwork(t)
	sites := newSites(t, ctx, network)
	var targets []monitor.Target
	for _, c := range sites {
		targets = append(targets, c.targets()...)
	}
	stack := labtest.StartMonitor(t, network, monitor.Options{
		Prometheus: root + "/prometheus/prometheus.yml", Alertmanager: root + "/prometheus/alertmanager.yml",
		Targets: targets,
	})
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	must(t, stack.WaitScraped(waiting, len(targets), 2))
	t.Logf("%d nodes are watched after %v", len(targets), time.Since(began).Round(time.Second))

	t.Run("scenarios", func(t *testing.T) {
		for i, c := range sites {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.stack = stack
				if c.failure != nil {
					time.Sleep(time.Duration(i) * 3 * time.Second) // scrapes and evaluations are met at different moments
					c.fails(t)
					return
				}
				c.result.did = c.silence(t, c)
				late := time.After(pageWithin) // so late could a page be
				if len(c.tickets) > 0 {
					c.waitFor(t, resolvedWithin, "a ticket", func(n monitor.Notification) bool { return n.Receiver == ticket })
				}
				<-late
			})
		}
	})
	notifications, err := stack.Webhook.Notifications()
	must(t, err)
	for _, c := range sites {
		c.judge(t, notifications)
	}
	rulesEvaluated(t, stack)
	fmt.Print(table(sites, time.Since(began)))
}

// newSites boots all clusters, a few at a time.
func newSites(t *testing.T, ctx context.Context, network *monitor.Network) []*site {
	t.Helper()
	all := scenarios()
	sites, errs := make([]*site, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	turn := make(chan struct{}, 4)
	for i, s := range all {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			sites[i], errs[i] = newSite(ctx, network, s, labtest.Binary(t))
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range sites {
			if c != nil {
				if err := c.close(); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
	})
	must(t, errors.Join(errs...))
	return sites
}

// fails makes the failure happen, waits for the page, types what it says, and waits until it is resolved.
func (c *site) fails(t *testing.T) {
	answer := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), c.failure.patience)
		defer cancel()
		var err error
		c.result.stall, err = c.Request(ctx)
		answer <- err
	}()
	bad := c.bad(t)
	for start := time.Now(); len(bad) == 0; bad = c.bad(t) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("no bad packet arrived at the receiver")
		}
		time.Sleep(50 * time.Millisecond)
	}
	page := c.waitFor(t, 2*pageWithin, "the page", isPage("firing"))
	c.result.text = text(page)
	c.result.paged = page.Received.Sub(bad[0].Received)
	if c.result.paged > pageWithin {
		t.Errorf("paged %v after the first bad packet; want within %v", c.result.paged, pageWithin)
	}
	c.read(t, page)

	must(t, c.SetTxChecksum(false))
	remedied := time.Now()
	if err := <-answer; c.failure.patience > time.Minute {
		if err != nil {
			t.Errorf("the request that stalled was not answered after the remedy: %v", err)
		}
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the request did not stall: %v", err)
	}
	before := len(c.bad(t))
	c.result.did = fmt.Sprintf("%d bad packets", before)
	c.ask(t)
	if now := len(c.bad(t)); now != before {
		t.Errorf("%d bad packets, %d after the remedy", now, now-before)
	}
	resolved := c.waitFor(t, resolvedWithin, "the end of the page", isPage("resolved"))
	c.result.resolved = resolved.Received.Sub(remedied)
}

// read checks that the page says what someone who is woken needs.
func (c *site) read(t *testing.T, page monitor.Notification) {
	t.Helper()
	if len(page.Alerts) != 1 {
		t.Errorf("the page holds %d alerts; want one for the cluster:\n%s", len(page.Alerts), text(page))
	}
	for _, a := range page.Alerts {
		for label, want := range map[string]string{
			"alertname": "VxlanChecksumFailure", "severity": "critical", "cause": "outer_nat", "cluster": c.name,
		} {
			if a.Labels[label] != want {
				t.Errorf("label %s is %q; want %q", label, a.Labels[label], want)
			}
		}
		description := a.Annotations["description"]
		dropped, variant := "Receivers: "+receiver, "device flannel.1, variant "+c.failure.variant
		if c.failure.early { // the packet capture pages before counters and flows are scraped
			dropped, variant = "Receivers: ", "since its exporter started: "+c.failure.variant
		}
		for _, want := range []string{
			dropped, variant, "vxlan_exporter check",
		} {
			if !strings.Contains(description, want) {
				t.Errorf("the page does not say %q: %s", want, description)
			}
		}
		if !c.failure.early && !strings.Contains(description, sender+", device flannel.1") {
			t.Errorf("the page does not name %s: %s", sender, description)
		}
		if !strings.Contains(a.Annotations["summary"], c.name) || !strings.Contains(a.Annotations["runbook_url"],
			"#vxlanchecksumfailure") {
			t.Errorf("summary %q, runbook %q", a.Annotations["summary"], a.Annotations["runbook_url"])
		}
	}
}
