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
)

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// TestBigTablesCost reads 50,000 service rules within the cost that is promised.
func TestBigTablesCost(t *testing.T) {
	for _, backend := range []string{Legacy, NFT} {
		t.Run(backend, func(t *testing.T) {
			best, most := time.Hour, 0
			bigNode(t, backend).Do(func() error {
				r := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"})
				for range 5 {
					runtime.GC()
					idle := peak(t, true)
					start := cpu()
					if err := findGuard(t, r, backend); err != nil {
						return err
					}
					best = min(best, cpu()-start)
					most = max(most, peak(t, false)-idle)
				}
				return nil
			})
			t.Logf("%s: %v of CPU, %d KiB above idle", backend, best, most)
			if best > 50*time.Millisecond {
				t.Errorf("reading took %v of CPU, more than 50 ms", best)
			}
			if most > 8<<10 {
				t.Errorf("reading took %d KiB above idle, more than 8 MiB", most)
			}
		})
	}
}
