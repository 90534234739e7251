package natrules

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kernelversion"
)

// The kernel gives a legacy table in one piece only: 18 MB for 50,000 rules. What is wanted of it are a few chains. The
// entries are copied in order (net/ipv4/netfilter/ip_tables.c, copy_entries_to_user), and copying stops with EFAULT at
// the first page that is not mapped. So the buffer is address space alone, but for its beginning, where the base chains
// are, and a window that is moved to the chains they jump to; all pages between are one small piece of shared memory
// over and over, which takes what is not wanted, and the pages behind the window are left out. A small table, and one
// that is too scattered, is all window.

const (
	wholeTable   = 1 << 20   // up to here a table is all window
	firstSize    = 256 << 10 // always there
	windowSize   = 512 << 10
	scratchSize  = 256 << 10
	maxWindows   = 8 // readings of one table; beyond that it is cheaper to read it in one piece
	kernelPage   = 4096
	copyOvershot = 1 << 16 // an entry is at most 64 KiB long (u16 next_offset)
)

// tableEntries are the entries of a table, as far as they were read. They are not on the Go heap, which would keep them
// for long.
type tableEntries struct {
	socket  LegacySocket
	header  []byte // struct ipt_get_entries before them
	size    int
	whole   bool
	area    []byte
	scratch int // memfd; 0: none yet

	first, from, to int // the area is valid up to first, and between the others
	reads           int
	broken          bool // a read failed: the table was replaced while it was walked
}

// readEntries reserves the address space and reads the beginning.
func readEntries(s LegacySocket, header []byte, size int) (*tableEntries, error) {
	e := &tableEntries{socket: s, header: header, size: size, whole: size <= wholeTable || !copiesInOrder()}
	page := unix.Getpagesize()
	length := (len(header) + size + page - 1) &^ (page - 1)
	const reserve = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, reserve)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	e.area = unsafe.Slice((*byte)(base), length)
	if err := e.move(0); err != nil {
		e.unmap()
		return nil, err
	}
	return e, nil
}

// copiesInOrder reports whether this kernel copies a table entry by entry, names and all. Before 4.11 it copies
// everything first and puts the names in afterwards (xt_match_to_user came with f32815d21d4d), so that a copy cut short
// has no names.
func copiesInOrder() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && !kernelversion.Before(unix.ByteSliceToString(u.Release[:]), 4, 11)
}

func (e *tableEntries) torn() bool { return e.broken }

func (e *tableEntries) close() {
	e.unmap()
	_ = e.socket.Close()
}

func (e *tableEntries) unmap() {
	_ = unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(e.area)), uintptr(len(e.area)))
	if e.scratch != 0 {
		_ = unix.Close(e.scratch)
	}
}

func (e *tableEntries) at(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off+n > e.size {
		return nil, errLegacy
	}
	off += len(e.header)
	for range 2 {
		if off+n <= e.first || off >= e.from && off+n <= e.to {
			return e.area[off : off+n], nil
		}
		if err := e.move(off); err != nil {
			e.broken = true
			return nil, err
		}
	}
	return nil, errLegacy
}

// move puts the window around off, with some room before it, for a chain's head, and reads.
func (e *tableEntries) move(off int) error {
	e.reads++
	e.whole = e.whole || e.reads > maxWindows
	from, to := 0, len(e.area)
	if !e.whole {
		from = max(firstSize, (off-kernelPage)&^(unix.Getpagesize()-1))
		to = min(from+windowSize, len(e.area))
	}
	e.first, e.from, e.to = 0, 0, 0
	if err := e.remap(from, to); err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	copy(e.area, e.header)
	// EAGAIN: the table was replaced by one of another size.
	err := e.socket.Getsockopt(soGetEntries, e.area[:len(e.header)+e.size])
	if err != nil && (!errors.Is(err, unix.EFAULT) || to == len(e.area)) {
		return fmt.Errorf("getsockopt: %w", err)
	}
	e.first, e.from, e.to = min(firstSize, from), from, to-copyOvershot // the last entry may be there in part
	if from == firstSize {                                              // the two meet
		e.from = 0
	}
	if to == len(e.area) {
		e.to = len(e.header) + e.size
	}
	return nil
}

// remap makes the beginning and [from, to) real and empty, what is between them scratch, and what is behind nothing.
func (e *tableEntries) remap(from, to int) (err error) {
	const anonymous, rw = unix.MAP_PRIVATE | unix.MAP_ANON, unix.PROT_READ | unix.PROT_WRITE
	first := min(firstSize, from)
	if from > first && e.scratch == 0 {
		if e.scratch, err = unix.MemfdCreate("natrules", unix.MFD_CLOEXEC); err == nil {
			err = unix.Ftruncate(e.scratch, scratchSize)
		}
	}
	fixed := func(at, end, prot, flags, fd int) {
		if err == nil && at < end {
			_, err = unix.MmapPtr(fd, 0, unsafe.Pointer(&e.area[at]), uintptr(end-at), prot, flags|unix.MAP_FIXED)
		}
	}
	fixed(0, first, rw, anonymous, -1)
	for at := first; at < from; at += scratchSize {
		fixed(at, min(at+scratchSize, from), rw, unix.MAP_SHARED, e.scratch)
	}
	fixed(from, to, rw, anonymous, -1)
	fixed(to, len(e.area), unix.PROT_NONE, anonymous|unix.MAP_NORESERVE, -1)
	return err
}
