//go:build load

package load_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

var (
	budgetTime    = flag.Duration("budget", 10*time.Minute, "how long the budgets of a node are measured")
	budgetEntries = flag.Int("budget-entries", 1_000_000, "tracked connections of the large node")
)

// What the exporter may cost a node, and how late it may notice.
const (
	largeCPU     = 0.01
	ordinaryCPU  = 0.003
	budgetHold   = time.Millisecond // median over the scans of their longest receive
	budgetMemory = 20_000_000       // bytes resident
	budgetNotice = time.Minute      // from the first spoiled packet to the first scrape that tells
)

// TestBudget runs the exporter with its defaults on a large node and on an ordinary one, both exposed. In the middle the failure begins.
// CPU is what the exporter took from the end of its second minute, when what it does once is done.
func TestBudget(t *testing.T) {
	labtest.NeedRoot(t, "net.netfilter.nf_conntrack_max is that of the whole machine")
	t.Run("large", func(t *testing.T) {
		b := budget{entries: *budgetEntries, services: 5000, devices: 20, scrapers: 2, churn: 100, cpu: largeCPU}
		b.run(t, *budgetTime)
	})
	t.Run("ordinary", func(t *testing.T) {
		b := budget{entries: 10_000, services: 100, devices: 2, scrapers: 1, churn: 10, cpu: ordinaryCPU}
		b.run(t, *budgetTime/2)
	})
}

// budget is a node, and what the exporter may cost it.
type budget struct {
	entries, services, devices, scrapers int
	churn                                int // flows made, and as many ended, ten times a second
	cpu                                  float64

	mu       sync.Mutex
	resident int
	scans    map[float64]float64 // longest receive, by when the scan ended
	filtered map[float64]bool    // the kernel filtered
	pace     []float64
	noticed  time.Time
}

func (b *budget) run(t *testing.T, duration time.Duration) {
	trackUpTo(t, b.entries+b.entries/4)
	rig := labtest.NewRig(t, lab.LiveFailure())
	b.fill(t, rig)
	b.scans, b.filtered = map[float64]float64{}, map[float64]bool{}
	e := labtest.StartExporter(t, rig.A, labtest.Binary(t))

	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { b.comeAndGo(ctx, t, rig) })
	for i := range b.scrapers {
		work.Go(func() {
			sleep(ctx, time.Duration(i)*15*time.Second/time.Duration(b.scrapers))
			b.scrapeEvery(ctx, t, rig.A, e)
		})
	}
	warm := min(2*time.Minute, duration/4)
	sleep(ctx, warm)
	before, since := e.Scrape()["process_cpu_seconds_total"], time.Now()
	sleep(ctx, duration/2-warm)
	if !b.noticed.IsZero() {
		t.Errorf("active before the failure began")
	}
	began := time.Now()
	for ctx.Err() == nil {
		if n, err := rig.Query(ctx, 2, 50*time.Millisecond); n > 0 || err != nil && ctx.Err() == nil {
			t.Errorf("%d spoiled queries were answered, error %v", n, err)
		}
		sleep(ctx, 3*time.Second)
	}
	work.Wait()

	after := e.Scrape()["process_cpu_seconds_total"]
	cpu := (after - before) / time.Since(since).Seconds()
	holds := slices.Sorted(func(yield func(float64) bool) {
		for _, h := range b.scans {
			if !yield(h) {
				return
			}
		}
	})
	hold := time.Duration(holds[len(holds)/2] * float64(time.Second))
	t.Logf("%.2f %% of a CPU (%.2f %% with the first %s), %.1f MB resident at most, %d scans, %d filtered, %.0f to %.0f s apart; softirqs held off for %v in the "+
		"median of their longest receives, %v in the worst; the failure noticed after %v", 100*cpu, 100*after/duration.Seconds(), warm,
		float64(b.resident)/1e6, len(holds), len(b.filtered), slices.Min(b.pace), slices.Max(b.pace), hold, time.Duration(holds[len(holds)-1]*float64(time.Second)),
		b.noticed.Sub(began).Round(100*time.Millisecond))
	if cpu > b.cpu {
		t.Errorf("%.2f %% of a CPU, the budget is %.2f %%", 100*cpu, 100*b.cpu)
	}
	if hold > budgetHold {
		t.Errorf("softirqs held off for %v, the budget is %v", hold, budgetHold)
	}
	if b.resident > budgetMemory {
		t.Errorf("%d bytes resident, the budget is %d", b.resident, budgetMemory)
	}
	if b.noticed.IsZero() || b.noticed.Sub(began) > budgetNotice {
		t.Errorf("the failure was noticed at %v, it began at %v", b.noticed, began)
	}
}

// fill makes devices, services and entries.
func (b *budget) fill(t *testing.T, rig *lab.Rig) {
	t.Helper()
	var devices []string
	for i := 1; i < b.devices; i++ {
		devices = append(devices, fmt.Sprintf("link add vx%d type vxlan id %d dstport 8472 local %s dev %s nolearning udpcsum", i, 100+i, rig.UnderlayA, lab.Underlay),
			fmt.Sprintf("link set vx%d up", i))
	}
	if err := rig.A.IP(devices...); err != nil {
		t.Fatal(err)
	}
	if _, err := rig.A.RunInput(services(b.services), "iptables-legacy-restore", "-w", "--noflush"); err != nil {
		t.Fatal(err)
	}
	err := rig.A.Do(func() error {
		table, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer func() { _ = table.Close() }()
		const step = 10_000
		for done := 0; done < b.entries; done += step {
			flows := make([]conntracktest.Flow, step)
			for i := range flows {
				if flows[i] = conntracktest.TCP(done + i); i%20 == 0 {
					flows[i] = conntracktest.UDP(done + i)
				}
				flows[i].Replied = true
			}
			if err := table.Add(flows...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // at once, and not when the kernel comes to deleting the namespace
		err := rig.A.Do(func() error {
			table, err := conntracktest.Open()
			if err != nil {
				return err
			}
			return errors.Join(table.Flush(), table.Close())
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// services are kube-proxy's rules of n services with two ports.
func services(n int) string {
	var chains, rules strings.Builder
	for i := range n {
		ip := fmt.Sprintf("10.96.%d.%d", i>>8&255, i&255)
		fmt.Fprintf(&chains, ":KUBE-SVC-%d - [0:0]\n:KUBE-SEP-%d - [0:0]\n", i, i)
		fmt.Fprintf(&rules, `-I KUBE-SERVICES -d %[2]s/32 -p tcp -m comment --comment "default/svc-%[1]d:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-%[1]d
-A KUBE-SVC-%[1]d ! -s 10.244.0.0/16 -d %[2]s/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-%[1]d -j KUBE-SEP-%[1]d
-A KUBE-SEP-%[1]d -s 10.244.1.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-%[1]d -p tcp -m tcp -j DNAT --to-destination 10.244.1.1:80
`, i, ip)
	}
	return "*nat\n" + chains.String() + rules.String() + "COMMIT\n"
}

// comeAndGo makes and ends flows until ctx ends.
func (b *budget) comeAndGo(ctx context.Context, t *testing.T, rig *lab.Rig) {
	err := rig.A.Do(func() error {
		table, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer func() { _ = table.Close() }()
		batch := make([]conntracktest.Flow, b.churn)
		for i := 0; ctx.Err() == nil; i++ {
			for k := range batch {
				batch[k] = conntracktest.TCP(5_000_000 + i%1000*b.churn + k)
			}
			if err := errors.Join(table.Add(batch...), table.Delete(batch...)); err != nil {
				return err
			}
			sleep(ctx, 100*time.Millisecond)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// scrapeEvery scrapes every 15 s, as Prometheus does, until ctx ends.
func (b *budget) scrapeEvery(ctx context.Context, t *testing.T, ns *lab.NS, e *labtest.Exporter) {
	client := &http.Client{Transport: &http.Transport{DialContext: ns.DialContext}, Timeout: scrapeTimeout}
	defer client.CloseIdleConnections()
	for ; ctx.Err() == nil; sleep(ctx, 15*time.Second) {
		body, err := fetch(client, e.URL()+"/metrics")
		if err != nil {
			t.Error(err)
			return
		}
		m, err := scrape.Parse(strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		resident, err := e.Resident()
		if err != nil {
			t.Error(err)
			return
		}
		b.saw(t, m, resident)
	}
}

// saw takes in one scrape.
func (b *budget) saw(t *testing.T, m scrape.Metrics, resident int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resident = max(b.resident, resident)
	scan := m["vxlan_conntrack_scan_timestamp_seconds"]
	b.scans[scan] = m["vxlan_conntrack_scan_longest_receive_seconds"]
	if m["vxlan_conntrack_scan_filtered"] == 1 {
		b.filtered[scan] = true
	}
	b.pace = append(b.pace, m["vxlan_conntrack_scan_interval_seconds"])
	labels := map[string]string{"device": lab.Device, "variant": "offloaded_checksum", "state": "active"}
	if m[scrape.Series("vxlan_device_exposure", labels)] == 1 && b.noticed.IsZero() {
		b.noticed = time.Now()
	}
	for _, s := range m.Names() {
		if strings.HasPrefix(s, "vxlan_scrape_collector_success{") && m[s] != 1 {
			t.Errorf("%s is %g", s, m[s])
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// trackUpTo raises net.netfilter.nf_conntrack_max for the length of a test. A process of its own puts it back, however this one ends.
func trackUpTo(t *testing.T, n int) {
	t.Helper()
	const path = "/proc/sys/net/netfilter/nf_conntrack_max"
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var limit int
	if _, err := fmt.Sscan(string(before), &limit); err != nil || limit >= n {
		return
	}
	back := exec.Command("setsid", "sh", "-c", fmt.Sprintf("cat >/dev/null; echo %d >%s", limit, path))
	hold, err := back.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(hold.Close(), back.Wait()); err != nil {
			t.Errorf("put back %d in %s: %v", limit, path, err)
		}
	})
	if err := os.WriteFile(path, fmt.Append(nil, n), 0); err != nil {
		t.Fatal(err)
	}
}
