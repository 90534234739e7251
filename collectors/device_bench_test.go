package collectors

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkDevices is one look at many VXLAN devices over one NIC, and at the NIC. cpu-ms/op is user and system time.
func BenchmarkDevices(b *testing.B) {
	for _, count := range []int{2, 200} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			ns := manyDevices(b, count)
			ns.Do(func() error {
				d := NewDevice(DeviceConfig{})
				u := NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)})
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					var n node.Node
					for _, c := range []Collector{d, u} {
						fill, err := c.Observe(context.Background(), &n)
						if err != nil {
							return err
						}
						fill(&n)
					}
					if len(n.Devices) != count || len(n.Underlays) != 1 {
						return fmt.Errorf("%d devices over %d NICs", len(n.Devices), len(n.Underlays))
					}
				}
				b.ReportMetric(float64(cpuTime(b)-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
				return nil
			})
		})
	}
}

// manyDevices makes a namespace with count VXLAN devices over one veth.
func manyDevices(t testing.TB, count int) *labtest.NS {
	ns := labtest.New(t, "many")
	ns.Run("ip", "link", "add", "nic", "type", "veth", "peer", "name", "far")
	var batch strings.Builder
	for i := range count {
		fmt.Fprintf(&batch, "link add vx%d type vxlan id %d dstport 8472 dev nic local 192.0.2.1\n", i, i+1)
	}
	ns.RunInput(batch.String(), "ip", "-batch", "-")
	return ns
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
