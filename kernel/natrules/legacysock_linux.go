package natrules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
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
	s := &legacySocket{fd: fd, level: level}
	t, err := s.info(name)
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
		}
		return nil, fmt.Errorf("legacy table %s: getsockopt: %w", name, err)
	}
	t.ipv6, t.layout = ipv6, layoutOf(ipv6)
	header := make([]byte, align8(36)) // struct ipt_get_entries {char name[32]; u32 size; struct ipt_entry entrytable[]}
	copy(header, name)
	binary.NativeEndian.PutUint32(header[32:], uint32(t.size)) //nolint:gosec // at most maxTable
	blob := &socketBlob{socket: s, header: header, size: t.size}
	if t.size > wholeTable && copiesInOrder() {
		var w *windowBlob
		if w, err = newWindowBlob(header, t.size, s.entries); err == nil {
			blob.part = w
		}
	}
	if blob.part == nil || err != nil {
		var w *wholeBlob
		if w, err = newWholeBlob(header, t.size, s.entries); err == nil {
			blob.part = w
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("legacy table %s: %w", name, err)
	}
	t.blob = blob
	return &t, nil
}

// copiesInOrder reports whether this kernel copies a table entry by entry, names and all. Before 4.11 it copies everything first
// and puts the names in afterwards (xt_match_to_user came with f32815d21d4d), so that a copy cut short has no names.
func copiesInOrder() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 4 || major == 4 && minor >= 11
}

// wholeTable is the size up to which a table is read in one piece.
const wholeTable = 1 << 20

// legacySocket asks for tables.
type legacySocket struct{ fd, level int }

func (s *legacySocket) info(name string) (legacyTable, error) {
	var b [legacyInfoLen]byte
	copy(b[:31], name)
	if err := getsockopt(s.fd, s.level, soGetInfo, unsafe.Pointer(&b[0]), len(b)); err != nil {
		return legacyTable{}, err
	}
	t, err := parseLegacyInfo(b[:])
	if err == nil && (t.size <= 0 || t.size > maxTable) {
		err = fmt.Errorf("%d bytes: %w", t.size, errLegacy)
	}
	return t, err
}

// entries reads the table named in the header at p. EAGAIN: it was replaced by one of another size.
func (s *legacySocket) entries(p unsafe.Pointer, size int) error {
	return getsockopt(s.fd, s.level, soGetEntries, p, size)
}

func getsockopt(fd, level, option int, p unsafe.Pointer, n int) error {
	size := uint32(n) //nolint:gosec // at most maxTable and a header
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(p), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// socketBlob is a table's entries, and the socket they come through. A table that is too scattered for windows is read whole.
type socketBlob struct {
	socket *legacySocket
	header []byte
	size   int
	part   legacyBlob
	broken bool // a read failed: the table was replaced while it was walked
}

func (b *socketBlob) at(off, n int) ([]byte, error) {
	data, err := b.part.at(off, n)
	if !errors.Is(err, errManyWindows) {
		b.broken = b.broken || err != nil
		return data, err
	}
	whole, err := newWholeBlob(b.header, b.size, b.socket.entries)
	if err != nil {
		return nil, err
	}
	b.part.close()
	b.part = whole
	return whole.at(off, n)
}

func (b *socketBlob) torn() bool { return b.broken || b.part.torn() }

func (b *socketBlob) close() {
	b.part.close()
	_ = unix.Close(b.socket.fd)
}

// wholeBlob is a table read in one piece. It is not on the Go heap, which would keep it for long.
type wholeBlob struct{ mapping, entries []byte }

func newWholeBlob(header []byte, size int, fetch func(p unsafe.Pointer, size int) error) (*wholeBlob, error) {
	m, err := unix.Mmap(-1, 0, len(header)+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	copy(m, header)
	if err := fetch(unsafe.Pointer(&m[0]), len(m)); err != nil {
		_ = unix.Munmap(m)
		return nil, fmt.Errorf("getsockopt: %w", err)
	}
	return &wholeBlob{mapping: m, entries: m[len(header):]}, nil
}

func (w *wholeBlob) at(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off+n > len(w.entries) {
		return nil, errLegacy
	}
	return w.entries[off : off+n], nil
}

func (w *wholeBlob) torn() bool { return false }

func (w *wholeBlob) close() {
	if w.mapping != nil {
		_ = unix.Munmap(w.mapping)
		w.mapping, w.entries = nil, nil
	}
}
