package natrules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// ipsecPolicies are the policies by which IPsec takes packets on their way out. They are read when a rule asks for the
// first time.
type ipsecPolicies struct {
	ctx       context.Context
	procNet   string
	open      nl.Opener
	read      bool
	known     bool
	any       bool       // some policy makes IPsec take packets, on whatever way
	selectors []selector // of those for packets on their way out
	failed    error
}

// selector is what a policy is for.
type selector struct {
	ipv6     bool
	src, dst ranges
	proto    ranges
	out      bool // of packets on their way out
	takes    bool // it makes IPsec take them
}

// apply says whether IPsec takes a packet on its way out, or brought it in.
func (p *ipsecPolicies) apply(m *machine, inwards bool) truth {
	if p == nil {
		return maybe
	}
	if !p.read {
		p.read = true
		p.failed = p.load()
	}
	switch {
	case !p.known || p.failed != nil || inwards && p.any:
		return maybe
	case inwards:
		return no
	}
	t := no
	for _, s := range p.selectors {
		if s.ipv6 != m.packet.ipv6 {
			continue
		}
		t = t.or(m.is(dimSrc, s.src).and(m.is(dimDst, s.dst)).and(m.is(dimProto, s.proto)))
	}
	return t.and(maybe) // what a policy is for may be narrower still
}

// load lists them by NETLINK_XFRM. Opening such a socket would load xfrm_user, so it is opened only where the kernel
// has one of its own; without it there are no policies but those of PF_KEY.
func (p *ipsecPolicies) load() error {
	sockets, err := os.ReadFile(filepath.Join(p.procNet, "netlink"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	there := false
	for line := range strings.Lines(string(sockets)) {
		f := strings.Fields(line)
		there = there || len(f) > 1 && f[1] == fmt.Sprint(unix.NETLINK_XFRM)
	}
	if !there {
		_, err := os.Stat(filepath.Join(p.procNet, "pfkey"))
		p.known = err != nil
		return nil
	}
	conn, err := nl.Dial(p.ctx, p.open)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	const newPolicy, getPolicy, most = 0x13, 0x15, 4096 // XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY
	p.known = true
	return conn.Dump(getPolicy, newPolicy, nil, func() { p.any, p.selectors = false, nil }, func(b []byte) error {
		s, err := parsePolicy(b)
		switch {
		case err != nil || !s.takes:
		case len(p.selectors) == most:
			return errTooMany
		default:
			if p.any = true; s.out {
				p.selectors = append(p.selectors, s)
			}
		}
		return err
	})
}

// parsePolicy reads struct xfrm_userpolicy_info, which begins with struct xfrm_selector {u8 daddr[16], saddr[16]; be16
// ports and masks[4]; u16 family; u8 prefixlen_d, prefixlen_s, proto; …}. A policy without a template lets packets
// pass.
func parsePolicy(b []byte) (s selector, err error) {
	const dir, length, templates, out = 160, 168, 5, 1 // XFRMA_TMPL, XFRM_POLICY_OUT
	if len(b) < length || !nl.WellFormed(b[length:]) {
		return s, nl.ErrMalformed
	}
	s = selector{ipv6: binary.NativeEndian.Uint16(b[40:]) == unix.AF_INET6, out: b[dir] == out}
	if s.proto = numbers(uint64(b[44])); b[44] == 0 {
		s.proto = ranges(nil).not() // any
	}
	s.takes = parseNested(b[length:]).has(templates)
	for k, end := range []*ranges{&s.dst, &s.src} {
		a, _ := netip.AddrFromSlice(b[16*k:][:addrLen(s.ipv6)])
		p := netip.PrefixFrom(a, int(b[42+k]))
		if !p.IsValid() {
			return s, nl.ErrMalformed
		}
		*end = ranges{prefixSpan(p)}
	}
	return s, nil
}
