package natrules

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel gives a legacy table in one piece only: 18 MB for 50,000 rules. What is wanted of it are a few chains. The entries are
// copied in order (net/ipv4/netfilter/ip_tables.c, copy_entries_to_user), and copying stops with EFAULT at the first page that is
// not mapped. So the buffer is address space alone, but for its beginning, where the base chains are, and a window that is moved to
// the chains they jump to; all pages between are one small piece of shared memory over and over, which takes what is not wanted,
// and the pages behind the window are left out.

const (
	firstSize    = 256 << 10 // always there
	windowSize   = 512 << 10
	scratchSize  = 256 << 10
	maxWindows   = 8 // readings of one table; beyond that it is cheaper to read it in one piece
	kernelPage   = 4096
	copyOvershot = 1 << 16 // an entry is at most 64 KiB long (u16 next_offset)
)

// windowBlob gives parts of a table through windows.
type windowBlob struct {
	fetch   func(p []byte) error // GET_ENTRIES into p
	size    int                  // of the entries
	head    int                  // struct ipt_get_entries before them
	header  []byte
	scratch int // memfd
	area    []byte
	base    unsafe.Pointer
	page    int

	first    int // the area is valid up to here
	from, to int // and here
	reads    int
}

var errManyWindows = errors.New("table too scattered")

// newWindowBlob reserves the address space.
func newWindowBlob(header []byte, size int, fetch func(p []byte) error) (*windowBlob, error) {
	w := &windowBlob{fetch: fetch, size: size, head: align8(36), header: header, page: unix.Getpagesize()}
	var err error
	if w.scratch, err = unix.MemfdCreate("natrules", unix.MFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(w.scratch, scratchSize); err != nil {
		_ = unix.Close(w.scratch)
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	length := w.roundUp(w.head + size)
	w.base, err = unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		_ = unix.Close(w.scratch)
		return nil, fmt.Errorf("mmap: %w", err)
	}
	w.area = unsafe.Slice((*byte)(w.base), length)
	return w, nil
}

func (w *windowBlob) roundUp(n int) int { return (n + w.page - 1) &^ (w.page - 1) }

func (w *windowBlob) torn() bool { return false }

func (w *windowBlob) close() {
	if w.area != nil {
		_ = unix.MunmapPtr(w.base, uintptr(len(w.area)))
		_ = unix.Close(w.scratch)
		w.area = nil
	}
}

func (w *windowBlob) at(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || n > copyOvershot || off+n > w.size {
		return nil, errLegacy
	}
	off += w.head
	if w.first == 0 {
		if err := w.move(firstSize); err != nil {
			return nil, err
		}
	}
	if off+n <= w.first {
		return w.area[off : off+n], nil
	}
	if off < w.from || off+n > w.to {
		if err := w.move(off); err != nil {
			return nil, err
		}
	}
	if off+n > w.to {
		return nil, errLegacy
	}
	return w.area[off : off+n], nil
}

// move puts the window around off, with some room before it, for a chain's head, and reads.
func (w *windowBlob) move(off int) error {
	if w.reads++; w.reads > maxWindows {
		return errManyWindows
	}
	from := max(firstSize, (off-kernelPage)&^(w.page-1))
	to := min(from+windowSize, len(w.area))
	if err := w.remap(from, to); err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	copy(w.area, w.header)
	w.first, w.from, w.to = 0, 0, 0
	err := w.fetch(w.area[:w.head+w.size])
	if err != nil && (!errors.Is(err, unix.EFAULT) || to == len(w.area)) {
		return err
	}
	w.first, w.from, w.to = firstSize, from, to
	if from == firstSize { // the two meet
		w.from = 0
	}
	if to == len(w.area) {
		w.to = w.head + w.size
	} else {
		w.to -= copyOvershot // the last entry may be there in part
	}
	return nil
}

// remap makes the beginning and [from, to) real and empty, what is between them scratch, and what is behind nothing.
func (w *windowBlob) remap(from, to int) error {
	fixed := func(at, end, prot, flags, fd int) error {
		if at >= end {
			return nil
		}
		_, err := unix.MmapPtr(fd, 0, unsafe.Add(w.base, at), uintptr(end-at), prot, flags|unix.MAP_FIXED)
		return err
	}
	const rw = unix.PROT_READ | unix.PROT_WRITE
	if err := fixed(0, len(w.area), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, -1); err != nil {
		return err
	}
	if err := fixed(0, firstSize, rw, unix.MAP_PRIVATE|unix.MAP_ANON, -1); err != nil {
		return err
	}
	for at := firstSize; at < from; at += scratchSize {
		if err := fixed(at, min(at+scratchSize, from), rw, unix.MAP_SHARED, w.scratch); err != nil {
			return err
		}
	}
	return fixed(from, to, rw, unix.MAP_PRIVATE|unix.MAP_ANON, -1)
}
