package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab"
)

const (
	echoPort  = 7
	echoPause = 200 * time.Microsecond
	scanCPU   = 1 // scans, and takes the packets in
	otherCPU  = 0 // sends and answers

	serverAddr, peerAddr = "10.77.0.1", "10.77.0.2"
)

// echoes measures how long a UDP echo takes while the table is scanned without a pause. Both ends run on one CPU; the
// packets' receive softirq is steered to the other one, where the scan runs, by RPS on the server's veth. So a request
// waits for as long as the scan holds softirqs off.
func echoes(ctx context.Context, b *site, o options) error {
	if err := b.wire(); err != nil {
		return err
	}
	fmt.Printf("\n## UDP echo while the table of %d entries is scanned without a pause, the quietest of %d "+
		"rounds of %v\n\n",
		b.entries, o.rounds, o.echo)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| scanning\t| p50\t| p99\t| p99.9\t| max\t| echoes\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	loads := []string{"", "auto", "full", "filter", "exact"}
	rounds := make(map[string][][]time.Duration)
	for range o.rounds {
		for _, strategy := range loads {
			e, err := b.echoUnder(ctx, strategy, o.echo)
			if err != nil {
				return err
			}
			rounds[strategy] = append(rounds[strategy], e)
		}
	}
	for _, strategy := range loads {
		name := map[string]string{"": "idle", "exact": "kernel's filter on UDP and port"}[strategy]
		if name == "" {
			name = "scan, " + strategy
		}
		e := quietest(rounds[strategy])
		at := func(q float64) string { return msd(quantile(e, q)) }
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %d\t|\n", name, at(0.5), at(0.99), at(0.999), at(1), len(e))
	}
	return t.Flush()
}

// quietest is the round with the lowest p99.9. What the machine does besides only ever adds to the times; what a scan
// does to them it does in every round.
func quietest(rounds [][]time.Duration) []time.Duration {
	return slices.MinFunc(rounds,
		func(a, b []time.Duration) int { return cmp.Compare(quantile(a, 0.999), quantile(b, 0.999)) })
}

// quantile of sorted times.
func quantile(e []time.Duration, q float64) time.Duration {
	return e[min(int(float64(len(e))*q), len(e)-1)]
}

// wire joins the two namespaces by a veth pair.
func (b *site) wire() error {
	if err := b.ns.IP(
		"link add e0 type veth peer name e0 netns "+b.peer.Name, "addr add "+serverAddr+"/24 dev e0", "link set e0 up",
	); err != nil {
		return err
	}
	_, err := b.ns.Run("sh", "-c", fmt.Sprintf("echo %x > /sys/class/net/e0/queues/rx-0/rps_cpus", 1<<scanCPU))
	return errors.Join(err, b.peer.IP("addr add "+peerAddr+"/24 dev e0", "link set e0 up"))
}

// echoUnder measures echoes for d while a child scans; the sorted times.
func (b *site) echoUnder(ctx context.Context, strategy string, d time.Duration) (times []time.Duration, err error) {
	if strategy != "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := b.ns.Cmd(ctx, exe, childFlag, "load", strategy)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		defer func() {
			_ = stdin.Close()
			if werr := cmd.Wait(); err == nil {
				err = werr
			}
		}()
		if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil { // one scan is over: the scanner is warm
			return nil, fmt.Errorf("scan of strategy %q did not start: %w", strategy, err)
		}
	}
	e, err := b.measure(ctx, "echo", b.peer.Name, d.String())
	return e.Echoes, err
}

// echo measures echoes for d, from the namespace peer to this one; the sorted times.
func echo(peer, duration string) (s sample, err error) {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+5*time.Second)
	defer cancel()
	server, err := udpSocket(func(f func() error) error { return f() }, serverAddr, echoPort)
	if err != nil {
		return s, err
	}
	defer unix.Close(server)
	client, err := udpSocket((&lab.NS{Name: peer}).Do, peerAddr, 0)
	if err != nil {
		return s, err
	}
	defer unix.Close(client)
	var wg sync.WaitGroup
	var errServer, errClient error
	stop := make(chan struct{})
	wg.Go(func() { errServer = onCPU(func() error { return serve(server, stop) }) })
	wg.Go(func() { errClient = onCPU(func() error { return collect(client, stop, &s.Echoes) }) })
	err = onCPU(func() error { return request(ctx, client, d) })
	time.Sleep(400 * time.Millisecond) // answers still on the way: longer than any hold
	close(stop)
	wg.Wait()
	if len(s.Echoes) == 0 && err == nil {
		err = errors.New("no echo came back")
	}
	slices.Sort(s.Echoes)
	return s, errors.Join(err, errServer, errClient)
}

// onCPU runs f on a thread that stays on the CPU that does not scan.
func onCPU(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if err := pin(otherCPU); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func udpSocket(in func(func() error) error, addr string, port int) (fd int, err error) {
	err = in(func() error {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		// Wakes up now and then to look at whether it is over.
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
			return err
		}
		var a unix.SockaddrInet4
		a.Port = port
		if _, err := fmt.Sscanf(addr, "%d.%d.%d.%d", &a.Addr[0], &a.Addr[1], &a.Addr[2], &a.Addr[3]); err != nil {
			return err
		}
		return unix.Bind(fd, &a)
	})
	return fd, err
}

// each calls f with every datagram until stop is closed.
func each(fd int, stop <-chan struct{}, f func(b []byte, from unix.Sockaddr) error) error {
	var buf [64]byte
	for {
		n, from, err := unix.Recvfrom(fd, buf[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			select {
			case <-stop:
				return nil
			default:
				continue
			}
		case err != nil:
			return err
		}
		if err := f(buf[:n], from); err != nil {
			return err
		}
	}
}

func serve(fd int, stop <-chan struct{}) error {
	return each(fd, stop, func(b []byte, from unix.Sockaddr) error { return unix.Sendto(fd, b, 0, from) })
}

func collect(fd int, stop <-chan struct{}, times *[]time.Duration) error {
	return each(fd, stop, func(b []byte, _ unix.Sockaddr) error {
		*times = append(*times, monotonic()-time.Duration(binary.NativeEndian.Uint64(b)))
		return nil
	})
}

// request sends a datagram that carries its own time, again and again for d. It does not wait for answers: a held-up
// one holds up no other.
func request(ctx context.Context, fd int, d time.Duration) error {
	to := unix.SockaddrInet4{Port: echoPort, Addr: [4]byte{10, 77, 0, 1}}
	var b [8]byte
	for end := monotonic() + d; ctx.Err() == nil; {
		now := monotonic()
		if now > end {
			return nil
		}
		binary.NativeEndian.PutUint64(b[:], uint64(now))
		if err := unix.Sendto(fd, b[:], 0, &to); err != nil {
			return err
		}
		ts := unix.NsecToTimespec(int64(echoPause))
		_ = unix.Nanosleep(&ts, nil) // cut short by a signal: the next one is early
	}
	return ctx.Err()
}

func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
