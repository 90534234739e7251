package natrules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// Config says where a Reader looks; the zero value is this system.
type Config struct {
	Proc    string // procfs, default /proc
	ProcNet string // default Proc/net: the network namespace of the process
	Sys     string // sysfs, default /sys
	Boot    string // where config-RELEASE is, default /boot
	Modules string // where RELEASE/modules.builtin is, default /lib/modules

	// Openers; nil: those of the kernel, in the network namespace of the calling thread.
	OpenNFTables nl.Opener
	OpenLegacy   func(ipv6 bool) (LegacySocket, error)
	OpenIPSets   nl.Opener
	OpenXFRM     nl.Opener
}

// Reader reads the rules of the network namespace of the thread it is used on.
type Reader struct {
	procNet    string
	gate       gate
	open       nl.Opener
	openLegacy func(ipv6 bool) (LegacySocket, error)
	openIPSets nl.Opener
	openXFRM   nl.Opener
}

// NewReader makes a Reader. Nothing is opened yet.
func NewReader(c Config) *Reader {
	proc := cmp.Or(c.Proc, "/proc")
	if c.OpenNFTables == nil {
		c.OpenNFTables = nl.Netfilter
	}
	if c.OpenLegacy == nil {
		c.OpenLegacy = openLegacySocket
	}
	if c.OpenIPSets == nil {
		c.OpenIPSets = nl.Netfilter
	}
	if c.OpenXFRM == nil {
		c.OpenXFRM = nl.XFRM
	}
	return &Reader{
		open: c.OpenNFTables, openLegacy: c.OpenLegacy, openIPSets: c.OpenIPSets, openXFRM: c.OpenXFRM,
		procNet: cmp.Or(c.ProcNet, filepath.Join(proc, "net")),
		gate: gate{
			proc: proc, sys: cmp.Or(c.Sys, "/sys"), boot: cmp.Or(c.Boot, "/boot"), modules: cmp.Or(c.Modules, "/lib/modules"),
		},
	}
}

// Read reads the rules of both families and backends and judges what they do to the packets of in. A backend that could
// not be read is in the State with its status; the error joins those of all that failed.
func (r *Reader) Read(ctx context.Context, in Input) (s State, err error) {
	if in.Release == "" {
		in.Release, _ = r.gate.release()
	}
	for range 3 { // kube-proxy may replace a table in the middle of it
		var torn bool
		if s, torn, err = r.readOnce(ctx, in); !torn || ctx.Err() != nil {
			break
		}
	}
	return s, err
}

func (r *Reader) readOnce(ctx context.Context, in Input) (s State, torn bool, err error) {
	sets := newIPSets(ctx, r.openIPSets, r.openLegacy)
	defer sets.close()
	look := lookups{sets: sets, policies: &ipsecPolicies{ctx: ctx, procNet: r.procNet, open: r.openXFRM}}
	var rulesets []*ruleset
	var open []*legacyTable
	defer func() {
		for _, t := range open {
			t.close()
		}
	}()
	for _, six := range []bool{false, true} {
		set, tables := r.readLegacy(six, look)
		rulesets, open = append(rulesets, set), append(open, tables...)
	}
	tables, four, six := r.readNFT(ctx)
	if tables != nil {
		tables.lookups = look
		defer tables.close()
	}
	rulesets = append(rulesets, four, six)
	var errs []error
	for _, set := range rulesets {
		set.postrouting = kubePostrouting(set.bases)
		if set.err != nil {
			torn = torn || errors.Is(set.err, unix.EAGAIN) || errors.Is(set.err, nl.ErrInterrupted)
			errs = append(errs, fmt.Errorf("%s %s: %w", set.family, set.backend, set.err))
		}
	}
	s = judgeRules(in, rulesets)
	torn = torn || sets.gone
	if sets.failed != nil {
		errs = append(errs, fmt.Errorf("ip sets: %w", sets.failed))
	}
	if err := look.policies.failed; err != nil {
		errs = append(errs, fmt.Errorf("IPsec policies: %w", needsAdmin(err)))
	}
	for _, t := range open {
		torn = torn || t.torn()
	}
	return s, torn, errors.Join(errs...)
}

func (r *Reader) readNFT(ctx context.Context) (tables *nftables, ipv4, ipv6 *ruleset) {
	available, err := r.gate.nftables()
	if err == nil && available {
		tables, err = openNFT(ctx, r.open)
	}
	ipv4, ipv6 = tables.rulesets()
	if err != nil && !errors.Is(err, errNoNFTables) {
		return nil, ipv4.failed(err), ipv6.failed(err)
	}
	return tables, ipv4, ipv6
}

// Generation is the number that every change of nf_tables rules in this namespace increments; ok is false when it
// cannot be had.
func (r *Reader) Generation(ctx context.Context) (id uint32, ok bool) {
	if available, err := r.gate.nftables(); err != nil || !available {
		return 0, false
	}
	conn, err := dialNFT(ctx, r.open)
	if err != nil {
		return 0, false
	}
	defer conn.close()
	id, err = conn.generation()
	return id, err == nil
}

// failed records why a ruleset could not be read.
func (r *ruleset) failed(err error) *ruleset {
	r.err, r.bases = err, nil
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.status = statusNotPermitted
	case errors.Is(err, errors.ErrUnsupported):
		r.status = statusUnsupported
	default:
		r.status = statusFailed
	}
	return r
}
