package probe_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/probe"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkRound is a round of the collector on a healthy path: the neighbors are read, three of them drawn and asked from two addresses. cpu-µs is
// what the thread uses, the softirqs that it sends from included.
func BenchmarkRound(b *testing.B) {
	for _, neighbors := range []int{3, 100, 5000} {
		b.Run(fmt.Sprint(neighbors), func(b *testing.B) {
			o := lab.LiveFailure()
			o.Rules = lab.RulesFixed
			r := labtest.NewRig(b, o)
			var here, there []string
			for i := range neighbors {
				peer := netip.AddrFrom4([4]byte{10, 244, byte(128 + i>>8), byte(i)})
				here = append(here, fmt.Sprintf("neigh add %s lladdr 02:76:78:00:00:0b dev %s nud permanent", peer, lab.Device), fmt.Sprintf("route add %s via %[1]s dev %s onlink", peer, lab.Device))
				there = append(there, fmt.Sprintf("addr add %s/32 dev %s", peer, lab.Device))
			}
			must(b, r.A.IP(here...))
			// The other node's part on the other CPU, as if it were another machine.
			_, err := r.B.Run("sh", "-c", "echo 2 >/sys/class/net/"+lab.Underlay+"/queues/rx-0/rps_cpus")
			must(b, err)
			var cpu unix.CPUSet
			cpu.Set(0)
			must(b, r.B.IP(there...))
			must(b, r.A.Do(func() error {
				devices, err := readDevices(b.Context())
				if err != nil {
					return err
				}
				must(b, unix.SchedSetaffinity(0, &cpu))
				var before, after unix.Rusage
				must(b, unix.Getrusage(unix.RUSAGE_THREAD, &before))
				for b.Loop() {
					found, err := probe.Find(b.Context(), probe.Config{Devices: devices, Max: 3, Mark: probe.DefaultMark})
					if err != nil {
						return err
					}
					probe.Round(context.Background(), found.Targets, probe.Options{Mark: probe.DefaultMark, Count: probe.DefaultCount, Timeout: probe.DefaultTimeout, Own: found.Own})
				}
				must(b, unix.Getrusage(unix.RUSAGE_THREAD, &after))
				used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
				b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
				return nil
			}))
		})
	}
}
