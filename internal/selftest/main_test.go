package selftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab"
)

// childEnv makes the test binary act as a program of its own: one that runs the self-test, or one that stops in the
// middle of it.
const childEnv = "SELFTEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		labtest.Enter()
		os.Exit(m.Run())
	case "run":
		childRun()
	case "stop":
		fmt.Fprintln(os.Stderr, childStop())
		os.Exit(1)
	case "first thread":
		childFirstThread()
	}
}

func childRun() {
	t, err := Run(context.Background(), "/proc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, fs.ErrPermission) {
			os.Exit(77)
		}
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		panic(err)
	}
}

// childStop builds the rig, uses it, says which namespace it is in, and waits to be killed.
func childStop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return inNamespace(func() error {
		r, err := newRig(ctx, "/proc")
		if err != nil {
			return err
		}
		if _, err := r.measure(ctx, "offloaded_checksum", "ipv4"); err != nil {
			return err
		}
		ns, err := os.Readlink(lab.ThreadProc() + "/ns/net")
		if err != nil {
			return err
		}
		fmt.Println(ns)
		<-ctx.Done()
		return ctx.Err()
	})
}

// childFirstThread runs where the runtime cannot end the thread. The main goroutine begins on the process's first one.
func childFirstThread() {
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		panic(err)
	}
	if unix.Gettid() != unix.Getpid() {
		panic("not on the first thread")
	}
	away := ""
	if err := onOwnThread(func() (err error) {
		away, err = os.Readlink(lab.ThreadProc() + "/ns/net")
		return err
	}); err != nil {
		panic(err)
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != home || away == home || away == "" {
		panic(fmt.Sprintf("%v: from %s by %s to %s", err, home, away, after))
	}
}

// child is this test binary in one of those roles. /proc/self/exe is reachable for every user.
func child(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	return cmd
}

// holders lists what keeps a network namespace alive: threads that are in it, and files and mounts that stand for it.
func holders(t *testing.T, ns string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if link, err := os.Readlink(path); err == nil && link == ns {
				found = append(found, path)
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), ns) {
		found = append(found, "a mount")
	}
	return found
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// eventually waits up to five seconds for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func capabilities(t *testing.T, caps ...uintptr) *syscall.SysProcAttr {
	t.Helper()
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }
