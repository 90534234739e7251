package natrules

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"vxlan_exporter/internal/kernel/kernelversion"

	"golang.org/x/sys/unix"
)

// alignOf64 is the alignment of a 64-bit number in a structure.
const alignOf64 = int(unsafe.Alignof(struct {
	_ uint8
	n uint64
}{}.n))

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
func openLegacySocket(ipv6 bool) (LegacySocket, error) {
	s := legacySocket{level: unix.IPPROTO_IP}
	family := unix.AF_INET
	if ipv6 {
		family, s.level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	// Any socket of the family does: the options are netfilter's, not the protocol's (ip_getsockopt, nf_getsockopt).
	var err error
	s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return s, err
}

type legacySocket struct{ fd, level int }

func (s legacySocket) Getsockopt(option int, b []byte) error {
	return getsockopt(s.fd, s.level, option, unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

func (s legacySocket) Close() error { return unix.Close(s.fd) }

// openLegacy reads one table. The table must be known to exist: asking makes it.
func openLegacy(open func(ipv6 bool) (LegacySocket, error), name string, ipv6 bool) (*legacyTable, error) {
	s, err := open(ipv6)
	if err != nil {
		return nil, fmt.Errorf("legacy table %s: socket: %w", name, err)
	}
	t, err := legacyInfo(s, name)
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("legacy table %s: getsockopt: %w", name, needsAdmin(err))
	}
	t.ipv6, t.layout = ipv6, layoutOf(ipv6)
	header := make([]byte, align8(36)) // struct ipt_get_entries {char name[32]; u32 size; struct ipt_entry entrytable[]}
	copy(header, name)
	binary.NativeEndian.PutUint32(header[32:], uint32(t.size)) //nolint:gosec // at most maxTable
	t.blob, err = readEntries(s, header, t.size)
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("legacy table %s: %w", name, err)
	}
	return &t, nil
}

// copiesInOrder reports whether this kernel copies a table entry by entry, names and all. Before 4.11 it copies
// everything first and puts the names in afterwards (xt_match_to_user came with f32815d21d4d), so that a copy cut short
// has no names.
func copiesInOrder() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && !kernelversion.Before(unix.ByteSliceToString(u.Release[:]), 4, 11)
}

func legacyInfo(s LegacySocket, name string) (legacyTable, error) {
	var b [legacyInfoLen]byte
	copy(b[:31], name)
	if err := s.Getsockopt(soGetInfo, b[:]); err != nil {
		return legacyTable{}, err
	}
	t, err := parseLegacyInfo(b[:])
	switch {
	case err != nil:
	case t.name != name:
		err = fmt.Errorf("the answer is about table %q: %w", t.name, errLegacy)
	case t.size <= 0 || t.size > maxTable:
		err = fmt.Errorf("%d bytes: %w", t.size, errLegacy)
	}
	return t, err
}

func getsockopt(fd, level, option int, p unsafe.Pointer, n int) error {
	size := uint32(n) //nolint:gosec // at most maxTable and a header
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(p),
		uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
