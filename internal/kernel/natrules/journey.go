package natrules

import (
	"cmp"
	"slices"
)

// Priorities of the kernel's own hooks (include/uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities; IPv6 has the
// same).
const (
	prioConntrack = -200 // NF_IP_PRI_CONNTRACK
	prioNATDst    = -100 // NF_IP_PRI_NAT_DST
	prioNATSrc    = 100  // NF_IP_PRI_NAT_SRC
)

// core is the priority at which b really runs. From 4.18 every nat chain, whatever its own priority, is called by the
// one NAT hook of its place; its own priority orders it among the other nat chains (net/netfilter/nf_nat_core.c,
// nf_nat_register_fn, 9971a514ed26).
func (b *base) core() int32 {
	switch {
	case !b.nat, b.alone:
		return b.priority
	case b.hook == hookOutput || b.hook == hookPrerouting:
		return prioNATDst
	default:
		return prioNATSrc
	}
}

// inOrder sorts base chains as a packet on its way out meets them. Of two chains of one priority the one that was
// hooked later runs first (net/netfilter/core.c, nf_hook_entries_grow). Within a table the handles tell which that is;
// between tables, and between the backends, nothing does: other chooses the one order or the other.
func inOrder(bases []*base, other bool) []*base {
	sorted := slices.Clone(bases)
	slices.SortStableFunc(sorted, func(a, b *base) int {
		c := cmp.Or(cmp.Compare(a.hook, b.hook), cmp.Compare(a.core(), b.core()), cmp.Compare(a.priority, b.priority))
		switch {
		case c != 0:
			return c
		case a.sameTable(b):
			return cmp.Compare(b.handle, a.handle)
		case other:
			return compareTables(b, a)
		default:
			return compareTables(a, b)
		}
	})
	return sorted
}

// sameTable reports whether the handles of two chains tell their order. Before 4.14 the one that was hooked earlier ran
// first (net/netfilter/core.c, nf_register_net_hook), so that for old kernels it is left open.
func (b *base) sameTable(c *base) bool {
	return !b.alone && b.backend == c.backend && b.family == c.family && b.table == c.table
}

func compareTables(a, b *base) int {
	return cmp.Or(cmp.Compare(a.backend, b.backend), cmp.Compare(a.family, b.family), cmp.Compare(a.table, b.table),
		cmp.Compare(a.handle, b.handle))
}

// firstNAT leaves, of the nat chains that hook one place each by itself, the first: it binds every flow, be it to the
// source that it has, and the others are not asked about a flow that is bound
// (net/ipv4/netfilter/nf_nat_l3proto_ipv4.c, nf_nat_ipv4_fn, up to 4.17).
func firstNAT(sorted []*base) []*base {
	bound := map[int]bool{}
	return slices.DeleteFunc(sorted, func(b *base) bool {
		late := b.nat && b.alone && bound[b.hook]
		bound[b.hook] = bound[b.hook] || b.nat
		return late
	})
}

// ambiguous reports whether two base chains share hook and priority, so that their order is not known.
func ambiguous(bases []*base) bool {
	bases = at(bases, outgoing...)
	for i, a := range bases {
		for _, b := range bases[:i] {
			if !a.sameTable(b) && a.hook == b.hook && a.core() == b.core() && (a.nat != b.nat || a.priority == b.priority) {
				return true
			}
		}
	}
	return false
}

// through takes a kind of packet through base chains, which are in order, and returns every fate it can meet. A nat
// chain is asked for a tracked packet only, and the first nat chain that rewrites the source is the last that is asked.
// Where nat rewrites destinations, rules for services set the bits of marking; they are not walked.
func (w *walk) through(bases []*base, start state, marking uint32) []exit {
	var fates exitSet
	live := pathSet{{state: start, packet: w.packets[0]}}
	mark := func() {
		for i := range live {
			live[i].state.mark = live[i].state.mark.assign(marking, marking)
		}
		marking = 0
	}
	for _, b := range bases {
		if marking != 0 && (b.hook == hookForward || b.hook == hookPostrouting || b.core() > prioNATDst) {
			mark()
		}
		var next pathSet
		for _, p := range live {
			if b.nat && p.state.untracked != nil {
				next.add(p)
				continue
			}
			for _, e := range w.enter(b, p) {
				if e.left = p.left; e.kind == verdictAccept && e.left == nil && b.nat && b.hook == hookPostrouting {
					e.left = e.rule
				}
				switch {
				case e.kind == verdictAccept, b.nat && b.hook != hookPostrouting:
					// Where the nat table rewrites destinations, what it does not tell leaves the source alone.
					next.add(e.path)
				case e.kind == verdictUnknown && b.hook == hookForward:
					next.add(p)
				default:
					fates.add(e)
				}
			}
		}
		live = w.joined(next)
	}
	mark()
	for _, p := range live {
		fates.add(exit{kind: verdictAccept, path: p})
	}
	return fates
}

// serviceChain reports whether c is one of the chains in which kube-proxy chooses an endpoint, marks, or refuses a
// packet to a service. No outer VXLAN packet is addressed to one. They hold nearly all of kube-proxy's rules and are
// never read.
func serviceChain(c *chain) bool {
	if c.backend == NFT && c.table == "kube-proxy" {
		return c.name != "masquerading" && c.name != "postrouting"
	}
	switch c.name {
	case "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL",
		"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER":
		return true
	}
	return false
}
