//go:build e2e

package page_test

import (
	"fmt"
	"testing"
	"time"
)

// These go on for quietTime with something that must not page, prove that it happened, and say how much of it.

func sendGarbage(t *testing.T, c *site) string {
	to, closer, err := sink(t.Context(), c, 9000)
	must(t, err)
	defer closer.Close()
	before, sent := c.counters(t), 0
	every(t, 2*time.Second, quietTime, func() {
		must(t, garbage(c.A, c.UnderlayB, 10))
		must(t, garbage(c.B, c.UnderlayA, 5))
		sent += 10
		must(t, touch(t.Context(), c, to))
	})
	counted := c.counters(t).UDPInCsumErrors - before.UDPInCsumErrors
	if counted < uint64(sent)*9/10 || counted > uint64(sent) {
		t.Errorf("%d datagrams of garbage raised InCsumErrors by %d", sent, counted)
	}
	c.noOuterNAT(t)
	return fmt.Sprintf("InCsumErrors +%d by garbage", counted)
}

func sendHeavily(t *testing.T, c *site) string {
	const bursts, burst, connections = 4, 100 << 20, 200
	must(t, c.wire.Close()) // it need not queue all this
	c.wire = nil
	to, closer, err := sink(t.Context(), c, 9000)
	must(t, err)
	defer closer.Close()
	for range bursts {
		must(t, flood(t.Context(), c, to, burst))
		for range connections {
			must(t, touch(t.Context(), c, to))
		}
		c.noOuterNAT(t)
		time.Sleep(quietTime / bursts)
	}
	passed := tunnelBytes(t, c)
	if passed < bursts*burst {
		t.Errorf("%d bytes came through the tunnel; want at least %d", passed, bursts*burst)
	}
	if now := c.counters(t); now.UDPInCsumErrors != 0 {
		t.Errorf("healthy traffic raised InCsumErrors to %d", now.UDPInCsumErrors)
	}
	return fmt.Sprintf("%d MB, %d connections", passed>>20, bursts*connections)
}

func natOthers(t *testing.T, c *site) string {
	seen := map[string]bool{}
	every(t, time.Second, quietTime, func() {
		must(t, container(c))
		for _, port := range c.nated(t, 53) {
			seen[port] = true
		}
		c.ask(t)
		c.noOuterNAT(t)
	})
	if len(seen) < 20 {
		t.Errorf("%d flows of the container were NATed; want at least 20", len(seen))
	}
	c.noBadPackets(t)
	return fmt.Sprintf("%d other NATed flows", len(seen))
}

func restartExporters(t *testing.T, c *site) string {
	restarts := 0
	part := func() {
		every(t, time.Second, quietTime/3, func() { c.ask(t) })
		c.outerNAT(t)
	}
	part()
	for range 2 {
		for instance := range c.nodes() {
			must(t, c.exporters[instance].Stop())
			must(t, c.startExporter(t.Context(), instance))
			restarts++
		}
		part()
	}
	if errors := c.counters(t).UDPInCsumErrors; errors != c.old {
		t.Errorf("InCsumErrors is %d; want the %d of before", errors, c.old)
	}
	c.noBadPackets(t)
	c.wants(t, 2, `count(changes(process_start_time_seconds{cluster=%q}[15m]) >= 1)`)
	return fmt.Sprintf("%d restarts, %d old errors", restarts, c.old)
}

func reboot(t *testing.T, c *site) string {
	if errors := c.counters(t).UDPInCsumErrors; errors == 0 || errors != c.old {
		t.Errorf("InCsumErrors is %d before the boot; want %d", errors, c.old)
	}
	every(t, time.Second, quietTime/3, func() { c.ask(t) })
	c.outerNAT(t)
	c.noBadPackets(t)
	must(t, c.close())
	must(t, c.boot(t.Context()))
	every(t, time.Second, quietTime*2/3, func() { c.ask(t) })
	c.outerNAT(t)
	c.noBadPackets(t)
	if errors := c.counters(t).UDPInCsumErrors; errors != 0 {
		t.Errorf("InCsumErrors is %d after the boot", errors)
	}
	c.wants(t, 1, `sum(resets(vxlan_host_udp_in_csum_errors_total{cluster=%q}[15m]))`)
	return fmt.Sprintf("InCsumErrors %d to 0", c.old)
}

func withoutTracking(t *testing.T, c *site) string {
	before, err := c.wire.Count()
	must(t, err)
	asked := 0
	every(t, time.Second, quietTime, func() {
		c.ask(t)
		asked++
	})
	seen, err := c.wire.Count()
	must(t, err)
	flows, err := c.OuterFlows()
	must(t, err)
	if packets := seen.Packets - before.Packets; packets < 4*asked || len(flows) != 0 { // SYN, ACK, request, FIN
		t.Errorf("%d requests made %d packets and %d tracked flows; want 4 packets each and no flow", asked, packets,
			len(flows))
	}
	c.noBadPackets(t)
	return fmt.Sprintf("%d requests, 0 flows tracked", asked)
}

func withFixedRules(t *testing.T, c *site) string {
	asked := 0
	every(t, time.Second, quietTime, func() {
		c.ask(t)
		asked++
	})
	flows, err := c.OuterFlows()
	must(t, err)
	if len(flows) == 0 {
		t.Error("no flow is tracked: nothing was tested")
	}
	c.noOuterNAT(t)
	c.noBadPackets(t)
	return fmt.Sprintf("%d requests, %d flows", asked, len(flows))
}

func remedied(t *testing.T, c *site) string {
	before := c.counters(t).UDPInCsumErrors
	if before == 0 {
		t.Error("it never failed: nothing was tested")
	}
	asked := 0
	every(t, time.Second, quietTime, func() {
		c.ask(t)
		asked++
	})
	c.outerNAT(t)
	c.noBadPackets(t)
	if now := c.counters(t).UDPInCsumErrors; now != before {
		t.Errorf("InCsumErrors rose from %d to %d in spite of the remedy", before, now)
	}
	return fmt.Sprintf("%d requests, %d old errors", asked, before)
}
