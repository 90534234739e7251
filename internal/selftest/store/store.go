// Package store keeps the result of a self-test in a file for the exporter. It knows nothing of how the result came
// about.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	kernel "vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// maxSize bounds the file. A result of all variants and families is about 1 KiB.
const maxSize = 64 << 10

// ErrStale says that a stored result is sound but of another boot or another kernel, and so says nothing of the running
// one.
var ErrStale = errors.New("stored self-test is of another boot or kernel")

// Write stores t in the file path, which appears whole or not at all and is readable by everybody: the exporter runs
// without privileges, the self-test with them. The directory must exist.
func Write(path string, t node.SelfTest) (err error) {
	if err := check(t); err != nil {
		return fmt.Errorf("selftest: not stored: %w", err)
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("selftest: encode: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("selftest: store %s: %w (does the directory exist?)", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("selftest: store %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Load reads the result that Write stored in path. bootID and release are those of the running kernel. The error wraps
// fs.ErrNotExist when nothing is stored and ErrStale when what is stored is of another boot or kernel; any other error
// means that the file cannot be trusted.
func Load(path, bootID, release string) (*node.SelfTest, error) {
	b, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("selftest: %w", err)
	}
	t, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("selftest: %s: %w (run the selftest command again with --write)", path, err)
	}
	if bootID == "" || release == "" || t.BootID != bootID || t.Release != release {
		return nil, fmt.Errorf("selftest: %s: %w (stored: kernel %q, boot %q)", path, ErrStale, t.Release, t.BootID)
	}
	return t, nil
}

// read takes the whole file, when it is one that nobody but its owner and group could have written. O_NONBLOCK keeps a
// FIFO from blocking.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s can be written by everybody (mode %v): not trusted", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	}
	return b, err
}

func decode(b []byte) (*node.SelfTest, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	t := new(node.SelfTest)
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("not a self-test's result: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a self-test's result: something follows it")
	}
	if err := check(*t); err != nil {
		return nil, err
	}
	return t, nil
}

// check holds a result to what a self-test can say: one verdict at most on each variant and family, with evidence
// unless unknown.
func check(t node.SelfTest) error {
	if t.BootID == "" || t.Release == "" || t.Time.IsZero() || len(t.Results) == 0 {
		return errors.New("boot id, release, time or results are missing")
	}
	for i, r := range t.Results {
		same := func(o node.SelfTestResult) bool { return o.Variant == r.Variant && o.Family == r.Family }
		switch {
		case !slices.Contains([]string{node.ZeroChecksum, node.OffloadedChecksum}, r.Variant):
			return fmt.Errorf("result %d: no such variant: %.32q", i, r.Variant)
		case !slices.Contains([]string{node.IPv4, node.IPv6}, r.Family):
			return fmt.Errorf("result %d: no such family: %.32q", i, r.Family)
		case !slices.Contains([]string{kernel.Affected, kernel.Fixed, kernel.Unknown}, r.Verdict):
			return fmt.Errorf("result %d: no such verdict: %.32q", i, r.Verdict)
		case r.Verdict != kernel.Unknown && r.Evidence == nil:
			return fmt.Errorf("result %d: %s without evidence", i, r.Verdict)
		case slices.ContainsFunc(t.Results[:i], same):
			return fmt.Errorf("result %d: %s over %s twice", i, r.Variant, r.Family)
		}
	}
	return nil
}
