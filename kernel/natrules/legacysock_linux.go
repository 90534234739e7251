package natrules

import (
	"fmt"
	"unsafe"

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

// openLegacy reads one table of this thread's network namespace. The table must be known to exist: asking makes it.
func openLegacy(name string, ipv6 bool) (*legacyTable, error) {
	family, level := unix.AF_INET, unix.IPPROTO_IP
	if ipv6 {
		family, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	// Any socket of the family does: the options are netfilter's, not the protocol's (ip_getsockopt, nf_getsockopt).
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("legacy table %s: socket: %w", name, err)
	}
	defer unix.Close(fd)
	for range 3 { // kube-proxy may replace the table between the two calls: then the sizes differ, and the kernel says EAGAIN
		var t *legacyTable
		if t, err = readTable(fd, level, name, ipv6); err == nil || err != unix.EAGAIN { //nolint:errorlint // a bare errno
			if err != nil {
				return nil, fmt.Errorf("legacy table %s: getsockopt: %w (needs CAP_NET_ADMIN)", name, err)
			}
			return t, nil
		}
	}
	return nil, fmt.Errorf("legacy table %s: replaced over and over while being read: %w", name, err)
}

func readTable(fd, level int, name string, ipv6 bool) (*legacyTable, error) {
	var b [legacyInfoLen]byte
	copy(b[:31], name)
	if err := getsockopt(fd, level, soGetInfo, unsafe.Pointer(&b[0]), len(b)); err != nil {
		return nil, err
	}
	t, err := parseLegacyInfo(b[:])
	if err != nil {
		return nil, err
	}
	t.ipv6, t.layout = ipv6, layoutOf(ipv6)
	if t.size <= 0 || t.size > maxTable {
		return nil, fmt.Errorf("%d bytes: %w", t.size, errLegacy)
	}
	head := align8(36) // struct ipt_get_entries {char name[32]; u32 size; struct ipt_entry entrytable[]}
	// Not from the Go heap: a node of 50,000 rules needs 20 MB here, for milliseconds once a minute.
	m, err := unix.Mmap(-1, 0, head+t.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	copy(m, b[:32])
	*(*uint32)(unsafe.Pointer(&m[32])) = uint32(t.size) //nolint:gosec // bounded above
	if err := getsockopt(fd, level, soGetEntries, unsafe.Pointer(&m[0]), len(m)); err != nil {
		_ = unix.Munmap(m)
		return nil, err
	}
	t.blob = &wholeBlob{mapping: m, entries: m[head:]}
	return &t, nil
}

func getsockopt(fd, level, option int, p unsafe.Pointer, n int) error {
	size := uint32(n) //nolint:gosec // at most maxTable and a header
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(p), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// wholeBlob is a table read in one piece.
type wholeBlob struct{ mapping, entries []byte }

func (w *wholeBlob) at(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off+n > len(w.entries) {
		return nil, errLegacy
	}
	return w.entries[off : off+n], nil
}

func (w *wholeBlob) close() {
	if w.mapping != nil {
		_ = unix.Munmap(w.mapping)
		w.mapping, w.entries = nil, nil
	}
}
