package natrules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
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
	Config
	gate gate
}

// NewReader makes a Reader. Nothing is opened yet.
func NewReader(c Config) *Reader {
	c.Proc = cmp.Or(c.Proc, "/proc")
	c.ProcNet = cmp.Or(c.ProcNet, filepath.Join(c.Proc, "net"))
	opener := func(open *nl.Opener, otherwise nl.Opener) {
		if *open == nil {
			*open = otherwise
		}
	}
	opener(&c.OpenNFTables, nl.Netfilter)
	opener(&c.OpenIPSets, nl.Netfilter)
	opener(&c.OpenXFRM, nl.XFRM)
	if c.OpenLegacy == nil {
		c.OpenLegacy = openLegacySocket
	}
	return &Reader{Config: c, gate: gate{
		proc: c.Proc, sys: cmp.Or(c.Sys, "/sys"), boot: cmp.Or(c.Boot, "/boot"), modules: cmp.Or(c.Modules, "/lib/modules"),
	}}
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
	sets := newIPSets(ctx, r.OpenIPSets, r.OpenLegacy)
	defer sets.close()
	look := lookups{sets: sets, policies: &ipsecPolicies{ctx: ctx, procNet: r.ProcNet, open: r.OpenXFRM}}
	var rulesets []*ruleset
	var open []*legacyTable
	defer func() {
		for _, t := range open {
			t.close()
		}
	}()
	for _, ipv6 := range []bool{false, true} {
		set, tables := r.readLegacy(ipv6, look)
		rulesets, open = append(rulesets, set), append(open, tables...)
	}
	tables, ipv4, ipv6 := r.readNFT(ctx)
	if tables != nil {
		tables.lookups = look
		defer tables.close()
	}
	var errs []error
	rulesets = append(rulesets, ipv4, ipv6)
	for _, set := range rulesets {
		set.postrouting = kubePostrouting(set.bases)
		if set.err != nil {
			torn = torn || errors.Is(set.err, unix.EAGAIN) || errors.Is(set.err, nl.ErrInterrupted)
			errs = append(errs, fmt.Errorf("%s %s: %w", family(set.ipv6), set.backend, set.err))
		}
	}
	s = judgeRules(in, rulesets)
	if sets.failed != nil {
		errs = append(errs, fmt.Errorf("ip sets: %w", sets.failed))
	}
	if err := look.policies.failed; err != nil {
		errs = append(errs, fmt.Errorf("IPsec policies: %w", needsAdmin(err)))
	}
	torn = torn || sets.gone
	for _, t := range open {
		torn = torn || t.torn()
	}
	return s, torn, errors.Join(errs...)
}

func (r *Reader) readNFT(ctx context.Context) (tables *nftables, ipv4, ipv6 *ruleset) {
	available, err := r.gate.nftables()
	if available {
		tables, err = openNFT(ctx, r.OpenNFTables)
	}
	ipv4, ipv6 = tables.rulesets()
	if !errors.Is(err, errNoNFTables) {
		ipv4.err, ipv6.err = err, err
	}
	return tables, ipv4, ipv6
}

// Generation is the number that every change of nf_tables rules in this namespace increments; ok is false when it
// cannot be had.
func (r *Reader) Generation(ctx context.Context) (id uint32, ok bool) {
	if available, err := r.gate.nftables(); err != nil || !available {
		return 0, false
	}
	conn := newNFT(ctx, r.OpenNFTables)
	defer conn.close()
	n, err := conn.get(request{kind: unix.NFT_MSG_GETGEN})
	return n.be32(unix.NFTA_GEN_ID), err == nil
}
