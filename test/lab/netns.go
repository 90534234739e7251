// Package lab builds networks of namespaces for tests and demonstrations: single namespaces, and the two-node rig that
// shows the live failure. It runs ip, iptables, nft, ethtool and their like, always inside namespaces it made, never in
// the root namespace.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// netnsDir is where ip(8) keeps named namespaces.
const netnsDir = "/run/netns"

var nsCount atomic.Uint32

// NS is a network namespace made by this package, named so that ip netns can enter it.
type NS struct{ Name string }

// NewNS makes a network namespace with its loopback up. The name is unique to this process: NAME-PID-N.
func NewNS(name string) (*NS, error) {
	n := &NS{Name: fmt.Sprintf("vxe-%s-%d-%d", name, os.Getpid(), nsCount.Add(1))}
	if out, err := run(exec.Command("ip", "netns", "add", n.Name)); err != nil {
		return nil, fmt.Errorf("ip netns add %s: %w: %s (needs root)", n.Name, err, out)
	}
	if err := n.IP("link set lo up"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close deletes the namespace, and with it every device and rule in it.
func (n *NS) Close() error {
	if out, err := run(exec.Command("ip", "netns", "del", n.Name)); err != nil {
		return fmt.Errorf("ip netns del %s: %w: %s", n.Name, err, out)
	}
	return nil
}

// Path is the file that stands for the namespace.
func (n *NS) Path() string { return filepath.Join(netnsDir, n.Name) }

// Cmd prepares a command that runs inside the namespace, with a /sys of its own.
func (n *NS) Cmd(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name}, args...)...)
}

// Run runs a command inside the namespace, for at most a minute, and returns what it printed on stdout. The error
// carries stderr.
func (n *NS) Run(args ...string) (string, error) { return n.RunInput("", args...) }

// RunInput is Run with something on standard input.
func (n *NS) RunInput(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return n.run(n.Cmd(ctx, args...), stdin, args)
}

// Configure is RunInput for programs that need no /sys of the namespace: they are started in it, for half of the time
// that ip netns exec takes.
func (n *NS) Configure(stdin string, args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	doErr := n.Do(func() error {
		out, err = n.run(exec.CommandContext(ctx, args[0], args[1:]...), stdin, args)
		return nil
	})
	return out, errors.Join(doErr, err)
}

func (n *NS) run(cmd *exec.Cmd, stdin string, args []string) (string, error) {
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", n.Name, strings.Join(args, " "), err,
			bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// IP runs ip(8) commands, as "link add br0 type bridge", in one process inside the namespace.
func (n *NS) IP(commands ...string) error {
	_, err := n.Configure(strings.Join(commands, "\n")+"\n", "ip", "-batch", "-")
	return err
}

// ThreadProc is the directory of the calling thread in /proc. /proc/thread-self came with Linux 3.17.
func ThreadProc() string { return fmt.Sprintf("/proc/self/task/%d", unix.Gettid()) }

// Do calls f on a thread that is in the namespace. Sockets that f opens stay in it. Note that /proc/net is the
// namespace of the process, not of the thread: use net in ThreadProc, or run a program with Cmd.
func (n *NS) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			n.enter(f, done) // never unlocked: the thread ends with the goroutine, so nothing else runs in the wrong namespace
			return
		}
		// The process's first thread never ends, and its namespace is what /proc/self/net shows. Held here, it is not the
		// other's.
		defer runtime.UnlockOSThread()
		other := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			n.enter(f, other)
		}()
		done <- <-other
	}()
	return <-done
}

func (n *NS) enter(f func() error, done chan<- error) {
	err := errors.New("the function did not return (t.Fatal is for the test's own goroutine)")
	defer func() { done <- err }()
	fd, openErr := unix.Open(n.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if openErr != nil {
		err = fmt.Errorf("open %s: %w", n.Path(), openErr)
		return
	}
	setErr := unix.Setns(fd, unix.CLONE_NEWNET)
	unix.Close(fd)
	if setErr != nil {
		err = fmt.Errorf("setns %s: %w (needs root)", n.Name, setErr)
		return
	}
	err = f()
}

func run(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
