package natrules

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	soGetInfo     = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO
	soGetEntries  = 65 // IPT_SO_GET_ENTRIES and IP6T_SO_GET_ENTRIES
	legacyInfoLen = 84 // sizeof(struct ipt_getinfo)
	maxTable      = 1 << 30
)

// LegacySocket asks for tables of one family, by getsockopt(2).
type LegacySocket interface {
	// Getsockopt puts the answer into b, which holds the question: option 64, IPT_SO_GET_INFO, or 65,
	// IPT_SO_GET_ENTRIES (ip6tables has the same), and 83, SO_IP_SET, for the name of an ip set. Parts of b may be no
	// memory; what would be copied there fails with EFAULT.
	Getsockopt(option int, b []byte) error
	Close() error
}

// openLegacySocket opens a socket in the network namespace of the calling thread.
func openLegacySocket(ipv6 bool) (s LegacySocket, err error) {
	family, level := unix.AF_INET, unix.IPPROTO_IP
	if ipv6 {
		family, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	// Any socket of the family does: the options are netfilter's, not the protocol's (ip_getsockopt, nf_getsockopt).
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return legacySocket{fd, level}, err
}

type legacySocket struct{ fd, level int }

func (s legacySocket) Getsockopt(option int, b []byte) error {
	size := uint32(len(b)) //nolint:gosec // at most maxTable and a header
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s legacySocket) Close() error { return unix.Close(s.fd) }

// openLegacy reads one table. The table must be known to exist: asking makes it.
func openLegacy(open func(ipv6 bool) (LegacySocket, error), name string, ipv6 bool) (*legacyTable, error) {
	s, err := open(ipv6)
	if err != nil {
		return nil, fmt.Errorf("legacy table %s: socket: %w", name, err)
	}
	t, err := readLegacyTable(s, name, ipv6)
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("legacy table %s: %w", name, err)
	}
	return t, nil
}

func readLegacyTable(s LegacySocket, name string, ipv6 bool) (*legacyTable, error) {
	info := make([]byte, legacyInfoLen)
	copy(info[:31], name)
	if err := s.Getsockopt(soGetInfo, info); err != nil {
		return nil, needsAdmin(fmt.Errorf("getsockopt: %w", err))
	}
	t, err := parseLegacyInfo(info, ipv6)
	switch {
	case err != nil:
		return nil, err
	case t.name != name:
		return nil, fmt.Errorf("the answer is about table %q: %w", t.name, errLegacy)
	case t.size <= 0 || t.size > maxTable:
		return nil, fmt.Errorf("%d bytes: %w", t.size, errLegacy)
	}
	header := make([]byte, align8(36)) // struct ipt_get_entries {char name[32]; u32 size; struct ipt_entry entrytable[]}
	copy(header, name)
	binary.NativeEndian.PutUint32(header[32:], uint32(t.size)) //nolint:gosec // at most maxTable
	t.blob, err = readEntries(s, header, t.size)
	return t, err
}
