package collectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/selftest/store"
)

// KernelConfig says where a Kernel collector reads.
type KernelConfig struct {
	Proc         string // usually /proc
	OSRelease    string // usually /etc/os-release
	SelfTestFile string // what the selftest command stored; empty: none
}

// Kernel says which kernel runs here and whether NAT on it spoils outer checksums, by its release and by a stored
// self-test. It needs no privilege.
type Kernel struct {
	Metrics
	cfg KernelConfig
	// Read once: both are constant until the next boot. Observe is never called twice at the same time.
	info   *kernelversion.Info
	bootID string
}

// NewKernel makes the collector.
func NewKernel(cfg KernelConfig) *Kernel {
	return &Kernel{cfg: cfg, Metrics: NewMetrics("kernel", Metric{
		Name:   "kernel_nat_checksum_bug",
		Labels: []string{"variant", "verdict=affected,fixed,unknown", "evidence=release,selftest"},
		Help: "Whether NAT on this kernel spoils the outer UDP checksum of VXLAN packets: 1 for the verdict that holds. " +
			"evidence=release judges by uname -r and -v, evidence=selftest, there when a self-test of this boot is stored, by " +
			"what the kernel did to packets.",
		Notes:   "By release, `offloaded_checksum` is never fixed.",
		Samples: kernelVerdicts,
	})}
}

// Observe fills node.Kernel.
func (c *Kernel) Observe(context.Context, *node.Node) (Fill, error) {
	var k node.Kernel
	var infoErr, bootErr, testErr error
	if c.info == nil {
		if k.Info, infoErr = kernelversion.Read(c.cfg.Proc, c.cfg.OSRelease); infoErr == nil {
			c.info = new(k.Info)
		}
	} else {
		k.Info = *c.info
	}
	if c.bootID == "" {
		c.bootID, bootErr = readBootID(c.cfg.Proc)
	}
	k.BootID = c.bootID
	if c.cfg.SelfTestFile != "" && k.BootID != "" && k.Release != "" {
		k.SelfTest, testErr = store.Load(c.cfg.SelfTestFile, k.BootID, k.Release)
	}
	switch {
	case errors.Is(testErr, fs.ErrNotExist):
		testErr = nil
	case errors.Is(testErr, store.ErrStale): // every reboot makes it so
		k.SelfTestError, testErr = testErr.Error(), nil
	case testErr != nil:
		k.SelfTestError = testErr.Error()
	}
	return func(n *node.Node) { n.Kernel = k }, failure(infoErr, bootErr, testErr)
}

// bootIDLen is the length of the UUID in /proc/sys/kernel/random/boot_id (drivers/char/random.c, proc_do_uuid).
const bootIDLen = 36

func readBootID(proc string) (string, error) {
	path := filepath.Join(proc, "sys/kernel/random/boot_id")
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, bootIDLen+2)) // no more of a file that does not end
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if len(id) != bootIDLen || strings.Trim(id, "0123456789abcdef-") != "" {
		return "", fmt.Errorf("kernel: %s: %q is not a boot id", path, id)
	}
	return id, nil
}

func kernelVerdicts(n *node.Node, emit Emit) {
	for _, b := range diagnosis.KernelBugs(n.Kernel) {
		for _, v := range []string{kernelversion.Affected, kernelversion.Fixed, kernelversion.Unknown} {
			emit.Bool(v == b.Verdict, b.Variant, v, b.Evidence)
		}
	}
}
