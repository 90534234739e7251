package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
)

// childFlag makes this program one of its own measurements.
const childFlag = "-child"

// child runs one measurement in this process's namespace and prints its sample.
func child(args []string) error {
	if len(args) < 1 {
		return errors.New("no measurement named")
	}
	var s sample
	var err error
	switch {
	case args[0] == "scan" && len(args) == 2: // strategy
		s, err = scanOnce(args[1])
	case args[0] == "echo" && len(args) == 3: // namespace it comes from, duration
		s, err = echo(args[1], args[2])
	case args[0] == "drain" && len(args) == 2: // size of the buffer
		size, _ := strconv.Atoi(args[1])
		s, err = drain(conntracktest.DumpRequest(unix.AF_UNSPEC, false, 0), size)
	case args[0] == "port":
		s, err = drain(conntracktest.DumpRequest(unix.AF_INET, true, port), 8<<10)
	case args[0] == "load" && len(args) == 2: // strategy: scan without a pause until killed
		return load(args[1])
	default:
		return fmt.Errorf("no measurement %q", args)
	}
	if err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, peak, _ := bytes.Cut(status, []byte("VmHWM:")) // getrusage(2) counts what this process was forked from, too
	if _, err := fmt.Sscanf(string(peak), "%d kB", &s.PeakKiB); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// count counts a scan's flows.
type count struct{ flows, nat int }

func (c *count) Begin() { *c = count{} }
func (c *count) Visit(f *conntrack.Flow) {
	c.flows++
	if f.SNAT() || f.DNAT() {
		c.nat++
	}
}

var targets = []conntrack.Target{{Family: unix.AF_INET, Port: port}}

// scan scans with a deadline that a busy machine meets too.
func scan(scanner *conntrack.Scanner, c *count) (conntrack.Stats, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return scanner.Scan(ctx, targets, c)
}

// scanOnce measures one scan, after two that let the scanner find out what the table is made of.
func scanOnce(strategy string) (sample, error) {
	scanner := conntrack.NewScanner(conntrack.Config{Strategy: conntrack.Strategy(strategy)})
	defer func() { _ = scanner.Close() }()
	var c count
	for range 2 {
		if _, err := scan(scanner, &c); err != nil {
			return sample{}, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, begin := cpuTime(), time.Now()
	stats, err := scan(scanner, &c)
	wall, cpuEnd := time.Since(begin), cpuTime()
	runtime.ReadMemStats(&after)
	return sample{
		Wall: wall, CPU: cpuEnd - cpu, Longest: stats.LongestReceive, Flows: c.flows, NAT: c.nat,
		Allocs: after.Mallocs - before.Mallocs, Strategy: string(stats.Strategy),
	}, err
}

// drain is the floor: it receives the reply and looks at nothing but its end.
func drain(request []byte, size int) (sample, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return sample{}, err
	}
	defer unix.Close(fd)
	buf := make([]byte, size)
	var s sample
	cpu, begin := cpuTime(), time.Now()
	if _, err := unix.Write(fd, request); err != nil {
		return s, err
	}
	last := time.Now()
	s.Longest = last.Sub(begin)
	for {
		n, err := unix.Read(fd, buf)
		now := time.Now()
		s.Longest, last = max(s.Longest, now.Sub(last)), now
		if err != nil {
			return s, err
		}
		if n < 16 {
			return s, fmt.Errorf("a datagram of %d bytes", n)
		}
		switch binary.NativeEndian.Uint16(buf[4:]) {
		case unix.NLMSG_ERROR:
			return s, unix.Errno(-int32(binary.NativeEndian.Uint32(buf[16:])))
		case unix.NLMSG_DONE:
			s.Wall, s.CPU = now.Sub(begin), cpuTime()-cpu
			return s, nil
		}
		// The end may stand behind the last entries.
		if n >= 20 && binary.NativeEndian.Uint16(buf[n-16:]) == unix.NLMSG_DONE &&
			binary.NativeEndian.Uint32(buf[n-20:]) == 20 {
			s.Wall, s.CPU = now.Sub(begin), cpuTime()-cpu
			return s, nil
		}
	}
}

// cpuTime is the CPU time of this process, the garbage collector's included.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// load scans on scanCPU until it is killed or its standard input ends.
func load(strategy string) error {
	runtime.LockOSThread()
	if err := pin(scanCPU); err != nil {
		return err
	}
	go func() { // the parent's end is ours
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	request := conntracktest.DumpRequest(unix.AF_INET, true, port)
	scanner := conntrack.NewScanner(conntrack.Config{Strategy: conntrack.Strategy(strategy)})
	var c count
	for first := true; ; first = false {
		if strategy == "exact" {
			if _, err := drain(request, 8<<10); err != nil {
				return err
			}
		} else if _, err := scan(scanner, &c); err != nil {
			return err
		}
		if first {
			fmt.Println("scanning")
		}
	}
}

// pin keeps the calling thread on one CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}
