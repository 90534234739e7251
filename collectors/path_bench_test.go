package collectors

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkPathRound is rounds on a healthy path: three peers asked from two addresses. cpu-µs is what the process
// uses, the softirqs that it sends from included.
func BenchmarkPathRound(b *testing.B) {
	for _, neighbors := range []int{3, 100, 5000} {
		b.Run(fmt.Sprint(neighbors), func(b *testing.B) {
			o := lab.LiveFailure()
			o.Rules = lab.RulesFixed
			r := labtest.NewRig(b, o)
			must := func(err error) {
				if err != nil {
					b.Fatal(err)
				}
			}
			var here, there []string
			for i := range neighbors {
				peer := netip.AddrFrom4([4]byte{10, 244, byte(128 + i>>8), byte(i)})
				here = append(here, fmt.Sprintf("neigh add %s lladdr 02:76:78:00:00:0b dev %s nud permanent", peer, lab.Device),
					fmt.Sprintf("route add %s via %[1]s dev %s onlink", peer, lab.Device))
				there = append(there, fmt.Sprintf("addr add %s/32 dev %s", peer, lab.Device))
			}
			must(r.A.IP(here...))
			// The other node's part on the other CPU, as if it were another machine.
			_, err := r.B.Run("sh", "-c", "echo 2 >/sys/class/net/"+lab.Underlay+"/queues/rx-0/rps_cpus")
			must(err)
			var cpu unix.CPUSet
			cpu.Set(0)
			must(r.B.IP(there...))
			must(r.A.Do(func() error {
				must(unix.SchedSetaffinity(0, &cpu))
				n := &node.Node{}
				fill, err := NewDevice(DeviceConfig{}).Observe(b.Context(), n)
				if err != nil {
					return err
				}
				fill(n)
				c := NewPath(PathConfig{})
				if _, err := c.Observe(b.Context(), n); err != nil {
					return err
				}
				before := used()
				for b.Loop() {
					c.round(context.Background())
				}
				b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N), "cpu-µs/op")
				if c.path == nil || len(c.path.Peers) != DefaultPathPeers || c.path.Peers[0].State() != node.PathOK {
					b.Errorf("%+v, %v", c.path, c.err)
				}
				return nil
			}))
		})
	}
}

func used() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
