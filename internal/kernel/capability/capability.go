// Package capability gives up what a process started with too much power does not need (capabilities(7)).
package capability

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit N stands for the capability with number N of include/uapi/linux/capability.h.
type Set uint64

// The capabilities that the exporter has a use for.
const (
	DACReadSearch  Set = 1 << unix.CAP_DAC_READ_SEARCH
	NetBindService Set = 1 << unix.CAP_NET_BIND_SERVICE
	NetAdmin       Set = 1 << unix.CAP_NET_ADMIN
	NetRaw         Set = 1 << unix.CAP_NET_RAW
)

// String lists the names, separated by commas; "none" for the empty set.
func (s Set) String() string {
	known := map[Set]string{
		DACReadSearch: "CAP_DAC_READ_SEARCH", NetBindService: "CAP_NET_BIND_SERVICE", NetAdmin: "CAP_NET_ADMIN",
		NetRaw: "CAP_NET_RAW",
	}
	var names []string
	for n := range 64 {
		if one := Set(1) << n; s&one != 0 {
			names = append(names, cmp.Or(known[one], strconv.Itoa(n)))
		}
	}
	return cmp.Or(strings.Join(names, ","), "none")
}

// Permitted returns the capabilities that the calling thread has or can take.
func Permitted() (Set, error) {
	var d [2]unix.CapUserData
	if err := unix.Capget(header(), &d[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return join(d[0].Permitted, d[1].Permitted), nil
}

// Keep gives up every capability but those in keep, for good: on all threads, in the bounding set too, and no program
// that is run later gains any (no_new_privs). It asks the kernel for nothing where nothing is to be given up, since a
// sandbox may forbid capset(2). A program that uses cgo cannot (errors.ErrUnsupported). On an error some may be left;
// Permitted tells.
func Keep(keep Set) error {
	err := allThreads("prctl PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	// The bounding set first: that takes CAP_SETPCAP. A process without it is bounded by what it has and no_new_privs.
	for n := range uintptr(64) {
		in, bad := unix.PrctlRetInt(unix.PR_CAPBSET_READ, n, 0, 0, 0)
		if bad != nil {
			break // beyond the last one that this kernel knows
		}
		if in == 0 || keep&(1<<n) != 0 {
			continue
		}
		if drop := allThreads("prctl PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0); drop != nil {
			if !errors.Is(drop, unix.EPERM) {
				err = errors.Join(err, drop)
			}
			break
		}
	}
	var d [2]unix.CapUserData
	if bad := unix.Capget(header(), &d[0]); bad != nil {
		return errors.Join(err, fmt.Errorf("capget: %w", bad))
	}
	if (join(d[0].Permitted, d[1].Permitted)|join(d[0].Inheritable, d[1].Inheritable))&^keep == 0 {
		return err
	}
	for i := range d {
		half := uint32(keep >> (32 * i)) //nolint:gosec // one half at a time
		d[i].Permitted &= half
		d[i].Effective = d[i].Permitted
		d[i].Inheritable &= half // what leaves here leaves the ambient set too
	}
	return errors.Join(
		err,
		allThreads("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(header())), uintptr(unsafe.Pointer(&d[0])), 0),
	)
}

func header() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}

func join(low, high uint32) Set { return Set(low) | Set(high)<<32 }

// allThreads makes a system call on every thread: capabilities are a thread's, not a process's.
//
//go:uintptrescapes
func allThreads(what string, number, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(number, a, b, c); errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}
