//go:build load

package natrules

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/services"
)

// cpu is what the thread took, as user and as system.
func cpu() [2]time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return [2]time.Duration{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())}
}

// peak is the process's largest resident set since it was last reset, in KiB.
func peak(t testing.TB, reset bool) int {
	if reset {
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestBigTablesCost reads the rules of 5,000 services of three endpoints, and judges the packets of the node and of pods, within the cost
// that is promised.
func TestBigTablesCost(t *testing.T) {
	for _, c := range []struct {
		backend, command, rules string
		most                    time.Duration
	}{
		{Legacy, "iptables-legacy-restore", services.Iptables(5000), 80 * time.Millisecond},
		{NFT, "iptables-nft-restore", services.Iptables(5000), 30 * time.Millisecond},
		{NFT, "nft -f -", services.Nftables(5000), 15 * time.Millisecond},
	} {
		t.Run(strings.Fields(c.command)[0], func(t *testing.T) {
			labtest.NeedRoot(t, "nft and iptables-nft-restore send more at once than net.core.wmem_max")
			ns := labtest.New(t, "big")
			ns.RunInput(c.rules, strings.Fields(c.command)...)
			best, most := [2]time.Duration{time.Hour}, 0
			ns.Do(func() error {
				r := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"})
				for range 10 {
					runtime.GC()
					idle := peak(t, true)
					before := cpu()
					if err := findGuard(t, r, c.backend); err != nil {
						return err
					}
					if after := cpu(); after[0]+after[1]-before[0]-before[1] < best[0]+best[1] {
						best = [2]time.Duration{after[0] - before[0], after[1] - before[1]}
					}
					most = max(most, peak(t, false)-idle)
				}
				return nil
			})
			t.Logf("%s: %v user and %v system, %d KiB above idle", c.command, best[0], best[1], most)
			if best[0]+best[1] > c.most {
				t.Errorf("reading took more than %v of CPU", c.most)
			}
			if most > 8<<10 {
				t.Errorf("reading took %d KiB above idle, more than 8 MiB", most)
			}
		})
	}
}
