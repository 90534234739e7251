package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxSysctl     = "/proc/sys/net/netfilter/nf_conntrack_max"
	bucketsSysctl = "/proc/sys/net/netfilter/nf_conntrack_buckets"
)

// settings are the two global sysctls as they were. A guard process holds them too and writes them back as soon as its standard
// input ends, which it does whether this process is done, interrupted or killed.
type settings struct {
	max, buckets uint64
	guard        *exec.Cmd
	hold         io.Closer
}

// raise lets the tables grow to n entries.
func raise(n uint64) (*settings, error) {
	var s settings
	var err error
	if s.max, err = readSysctl(maxSysctl); err != nil {
		return nil, fmt.Errorf("%w (needs the nf_conntrack module)", err)
	}
	if s.buckets, err = readSysctl(bucketsSysctl); err != nil {
		return nil, err
	}
	s.guard = exec.Command("/proc/self/exe", childFlag, "guard", strconv.FormatUint(s.max, 10), strconv.FormatUint(s.buckets, 10))
	s.guard.Stderr = os.Stderr
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not in reach of a ctrl-C
	if s.hold, err = s.guard.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.guard.Start(); err != nil {
		return nil, err
	}
	if n > s.max {
		if err := writeSysctl(maxSysctl, n); err != nil {
			return nil, fmt.Errorf("%w (needs root in the initial network namespace)", err)
		}
	}
	return &s, nil
}

func (s *settings) restore() error {
	if err := s.hold.Close(); err != nil {
		return err
	}
	if err := s.guard.Wait(); err != nil {
		return fmt.Errorf("restore nf_conntrack_max=%d and nf_conntrack_buckets=%d: %w", s.max, s.buckets, err)
	}
	return nil
}

// guard waits for the end of standard input and writes the two sysctls.
func guard(args []string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	for i, path := range []string{maxSysctl, bucketsSysctl} {
		want, err := strconv.ParseUint(args[i], 10, 64)
		if err != nil {
			return err
		}
		if now, err := readSysctl(path); err == nil && now == want {
			continue
		}
		if err := writeSysctl(path, want); err != nil {
			return err
		}
	}
	return nil
}

func readSysctl(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

func writeSysctl(path string, v uint64) error {
	return os.WriteFile(path, strconv.AppendUint(nil, v, 10), 0)
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown kernel"
	}
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}
