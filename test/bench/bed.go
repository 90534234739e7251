package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab"
)

const (
	port   = 8472
	nVXLAN = 50
	nNAT   = 3
)

// bed is a namespace whose table is filled, and a second one that packets come from.
type bed struct {
	ns, peer *lab.NS
	entries  int // made so far
	tcp, udp int
	vxlan    int
}

func newBed() (*bed, error) {
	ns, err := lab.NewNS("bench")
	if err != nil {
		return nil, err
	}
	peer, err := lab.NewNS("benchpeer")
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &bed{ns: ns, peer: peer}, nil
}

func (b *bed) close() error { return errors.Join(b.ns.Close(), b.peer.Close()) }

// add creates flows in the namespace.
func (b *bed) add(flows []conntracktest.Flow) error {
	b.entries += len(flows)
	return b.table(func(t *conntracktest.Table) error { return t.Add(flows...) })
}

func (b *bed) table(f func(*conntracktest.Table) error) error {
	return b.ns.Do(func() error {
		t, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		return f(t)
	})
}

// fill brings the namespace to n entries: TCP, and so many UDP.
func (b *bed) fill(ctx context.Context, n, udp int) error {
	const step = 10000
	for ctx.Err() == nil && b.entries < n {
		batch := make([]conntracktest.Flow, 0, step)
		for len(batch) < min(step, n-b.entries) {
			if b.udp < udp {
				batch = append(batch, conntracktest.UDP(b.udp))
				b.udp++
			} else {
				batch = append(batch, conntracktest.TCP(b.tcp))
				b.tcp++
			}
		}
		if err := b.add(batch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// addVXLAN adds the few flows that are looked for, some of them NATed, among decoys.
func (b *bed) addVXLAN() error {
	flows := conntracktest.Decoys(port)
	zoned := conntracktest.VXLAN(0, port+1)
	zoned.Zone = 9
	flows = append(flows, zoned)
	for i := range nVXLAN {
		f := conntracktest.VXLAN(i, port)
		if i < nNAT {
			f = f.WithSNAT()
		}
		flows = append(flows, f)
	}
	b.vxlan += nVXLAN
	return b.add(flows)
}

// ahead makes a program, all its threads, run ahead of whatever else the machine does (chrt(1)), as on an idle one.
func ahead() []string { return []string{"chrt", "-f", "10"} }

// sample is one measurement of one way of looking at the table.
type sample struct {
	Wall, CPU, Longest time.Duration
	Entries            uint64
	Flows, NAT         int
	Allocs             uint64
	PeakKiB            int64
	Holds, Echoes      []time.Duration
	Strategy           string
}

// measure runs this program's child in the namespace, which prints a sample.
func (b *bed) measure(ctx context.Context, args ...string) (sample, error) {
	var s sample
	exe, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := b.ns.Cmd(ctx, append(append(ahead(), exe, childFlag), args...)...)
	out, err := cmd.Output()
	if err != nil {
		return s, failure(args, err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("%v printed %q: %w", args, out, err)
	}
	return s, nil
}

// program measures another program in the namespace, start included, its output thrown away.
func (b *bed) program(ctx context.Context, args ...string) (sample, error) {
	cmd := b.ns.Cmd(ctx, append(ahead(), args...)...)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return sample{}, failure(args, err)
	}
	// Not the peak that wait(2) tells: that one includes this process, which the program was forked from.
	ended, peak := make(chan struct{}), make(chan int64, 1)
	go func() {
		var kib int64
		for {
			kib = max(kib, peakKiB(fmt.Sprint(cmd.Process.Pid), args[0]))
			select {
			case <-ended:
				peak <- kib
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	err := cmd.Wait()
	s := sample{Wall: time.Since(begin), CPU: cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()}
	close(ended)
	s.PeakKiB = <-peak
	if err != nil {
		return s, failure(args, err)
	}
	return s, nil
}

// peakKiB is VmHWM of a process (proc_pid_status(5)), 0 while it is not running the program of that name.
func peakKiB(pid, name string) int64 {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	var kib int64
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Name":
			if name != "" && strings.TrimSpace(value) != name {
				return 0
			}
		case "VmHWM":
			if _, err := fmt.Sscanf(value, "%d kB", &kib); err != nil {
				return 0
			}
		}
	}
	return kib
}

func failure(args []string, err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%v: %w: %s", args, err, exit.Stderr)
	}
	return fmt.Errorf("%v: %w", args, err)
}
