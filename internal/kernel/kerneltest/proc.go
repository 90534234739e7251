package kerneltest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Proc is a procfs on disk whose files can be broken.
type Proc struct {
	Root string
	t    testing.TB
}

// NewProc copies a fixture, a folder as collectors/testdata/proc-6.18, and adds /proc/modules, with nf_tables in it.
func NewProc(t testing.TB, fixture string) *Proc {
	t.Helper()
	p := &Proc{Root: t.TempDir(), t: t}
	if err := os.CopyFS(p.Root, os.DirFS(fixture)); err != nil {
		t.Fatal(err)
	}
	p.Write("modules", "nf_tables 376832 0 - Live 0x0000000000000000\n")
	return p
}

// Path is that of a file below the root.
func (p *Proc) Path(name string) string { return filepath.Join(p.Root, name) }

// Write makes a file.
func (p *Proc) Write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(p.Path(name), []byte(content), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// replaced puts the file away, has another made in its place, and returns what undoes it.
func (p *Proc) replaced(name string, with func(path string) error) (mend func()) {
	p.t.Helper()
	path, kept := p.Path(name), p.Path(name)+".kept"
	if err := os.Rename(path, kept); err != nil {
		p.t.Fatal(err)
	}
	if err := with(path); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		p.t.Helper()
		if err := os.RemoveAll(path); err != nil {
			p.t.Error(err)
		}
		if err := os.Rename(kept, path); err != nil {
			p.t.Error(err)
		}
	}
}

// Missing takes a file away.
func (p *Proc) Missing(name string) func() {
	p.t.Helper()
	return p.replaced(name, func(string) error { return nil })
}

// Half leaves the first half of a file.
func (p *Proc) Half(name string) func() {
	p.t.Helper()
	b, err := os.ReadFile(p.Path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return p.replaced(name, func(path string) error { return os.WriteFile(path, b[:len(b)/2], 0o644) })
}

// Holds puts other content into a file.
func (p *Proc) Holds(name, content string) func() {
	p.t.Helper()
	return p.replaced(name, func(path string) error { return os.WriteFile(path, []byte(content), 0o644) })
}

// Unreadable makes every read of a file fail with EIO: what is at address 0 of a process cannot be read (mem_rw,
// fs/proc/base.c).
func (p *Proc) Unreadable(name string) func() {
	p.t.Helper()
	return p.replaced(name, func(path string) error { return os.Symlink("/proc/self/mem", path) })
}

// Endless makes a file that has no end and no lines.
func (p *Proc) Endless(name string) func() {
	p.t.Helper()
	return p.replaced(name, func(path string) error { return os.Symlink("/dev/zero", path) })
}

// Hung makes a file whose opening does not return until it is mended: a FIFO without a writer.
func (p *Proc) Hung(name string) func() {
	p.t.Helper()
	path := p.Path(name)
	mend := p.replaced(name, func(path string) error { return unix.Mkfifo(path, 0o644) })
	return func() {
		p.t.Helper()
		// Whoever waits in open(2) sees a writer, and then the end.
		for range 100 {
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				unix.Close(fd)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		mend()
	}
}
