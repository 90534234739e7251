// Package selftest proves whether NAT on the running kernel spoils the outer UDP checksum of VXLAN packets. It builds
// the smallest network that can show it in a namespace of its own, by netlink alone, and looks at the packets that come
// out.
//
// The namespace has no name: it lives by one thread and a few sockets of this process, so that nothing can be left
// behind, however the process ends. Nothing in the node's own namespace is read or changed, but the kernel may load the
// modules veth, vxlan and nf_tables where they are not loaded yet. Where there is no nf_tables, ip_tables stands in,
// if it is loaded.
package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// timeout bounds a whole run, which takes some tens of milliseconds, or seconds where others keep the kernel's lock of
// network devices.
const timeout = 30 * time.Second

// Run makes the test; procfs is mounted at proc. The result has one entry for each variant and family; what the kernel
// lacks makes an entry unknown and is named as its reason. Run needs root: CAP_SYS_ADMIN for the namespace,
// CAP_NET_ADMIN for what is in it, CAP_NET_RAW to capture. Without them the error wraps fs.ErrPermission. It ends early
// when ctx does.
func Run(ctx context.Context, proc string) (node.SelfTest, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	t := node.SelfTest{Time: time.Now().UTC().Truncate(time.Second)}
	info, err := kernelversion.Read(proc, "")
	if err != nil {
		return t, fmt.Errorf("selftest: %w", err)
	}
	t.Release = info.Release
	boot, err := os.ReadFile(filepath.Join(proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return t, fmt.Errorf("selftest: %w", err)
	}
	t.BootID = string(bytes.TrimSpace(boot))

	err = inNamespace(func() (err error) {
		t.Results, err = run(ctx, proc)
		return err
	})
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (needs root: CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW)", err)
	}
	if err != nil {
		return t, fmt.Errorf("selftest: %w", err)
	}
	return t, nil
}

// ExitStatus is that of the command: 3, "could not tell", as check's, when there is no verdict at all.
func ExitStatus(t node.SelfTest) int {
	if slices.ContainsFunc(t.Results, func(r node.SelfTestResult) bool { return r.Verdict != kernelversion.Unknown }) {
		return 0
	}
	return 3
}

// run makes all the measurements. It must be called in the throwaway namespace.
func run(ctx context.Context, proc string) ([]node.SelfTestResult, error) {
	r, rigErr := newRig(ctx, proc)
	if rigErr == nil {
		defer r.close()
	}
	var results []node.SelfTestResult
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		for _, family := range []string{node.IPv4, node.IPv6} {
			result, err := node.SelfTestResult{}, rigErr
			if rigErr == nil {
				result, err = r.measure(ctx, variant, family)
			}
			switch {
			case err == nil:
			case ctx.Err() != nil, errors.Is(err, fs.ErrPermission): // it says nothing of the kernel
				return nil, err
			default:
				result = node.SelfTestResult{Variant: variant, Family: family, Verdict: kernelversion.Unknown, Reason: err.Error()}
			}
			results = append(results, result)
		}
	}
	return results, nil
}
