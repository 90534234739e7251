package labtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab/scrape"
)

// exporterEnv names the exporter's binary for tests: make's, the one of a virtual machine, or the one that
// BuildExporter made.
const exporterEnv = "VXLAN_TEST_EXPORTER"

// BuildExporter builds the exporter, unless VXLAN_TEST_EXPORTER names one. All packages share the binary: the go
// command links it anew only when it changed. For Enter, as it may need the network.
func BuildExporter() error {
	if os.Getenv(exporterEnv) != "" {
		return nil
	}
	root, err := scrape.Root()
	if err != nil {
		return err
	}
	folder := filepath.Join(root, ".cache", "test")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	lock, err := os.Create(filepath.Join(folder, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("flock %s: %w", lock.Name(), err)
	}
	binary := filepath.Join(folder, "vxlan_exporter")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/vxlan_exporter")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/vxlan_exporter: %w: %s", err, out)
	}
	return os.Setenv(exporterEnv, binary)
}

// Binary is the binary that BuildExporter made or found. The go command takes a result of a test from its cache while
// no file has changed that the test looked at; therefore it looks at those that the binary is made of.
func Binary(t testing.TB) string {
	t.Helper()
	binary := os.Getenv(exporterEnv)
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the exporter (TestMain calls labtest.Enter(labtest.BuildExporter)): %v", err)
	}
	root, err := scrape.Root()
	if err != nil {
		return binary // a virtual machine has the binary only
	}
	for _, folder := range []string{"cmd", "collectors", "exporter", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return binary
}

// PublicExporter is a copy of the binary that every user can run, whatever folder the module is in.
func PublicExporter(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "vxlan_exporter-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	content, err := os.ReadFile(Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(folder, "vxlan_exporter")
	if err := errors.Join(os.Chmod(folder, 0o755), os.WriteFile(binary, content, 0o755)); err != nil {
		t.Fatal(err)
	}
	return binary
}
