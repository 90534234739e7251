// Package memfile is a file that a fuzz target fills anew for each input: in memory, since a disk would take most of
// the time.
package memfile

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// File is a file without a name of its own (memfd_create(2)).
type File struct{ f *os.File }

// New makes one that lives as long as t.
func New(t testing.TB) File {
	t.Helper()
	fd, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "fuzz")
	t.Cleanup(func() { _ = f.Close() })
	return File{f}
}

// Path is what this process opens it by, each time from its beginning.
func (f File) Path() string { return "/proc/self/fd/" + strconv.Itoa(int(f.f.Fd())) }

// Hold makes content all that it holds.
func (f File) Hold(t testing.TB, content []byte) {
	t.Helper()
	if err := f.f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
}
