package natrules

import (
	"fmt"
	"strings"
)

// struct xt_connmark_mtinfo1 {u32 mark, mask; u8 invert}; no flow, no match (net/netfilter/xt_connmark.c).
func xtConnmark(i *info) {
	mark, mask := i.u32(0), i.u32(4)
	i.questions = []question{tracked}
	i.add(i.u8(8) != 0, "--mark "+markText(mark, mask), func(m *machine) truth {
		return m.state.ctmark.masked(mark, mask)
	})
}

// tracked says whether the packet has a conntrack entry where the machine stands.
func tracked(m *machine) truth {
	switch {
	case m.state.untracked != nil:
		return no
	case m.hook == hookPostrouting || m.hook == hookForward || m.priority > prioConntrack:
		return yes
	case m.priority < prioConntrack:
		return no
	default:
		return maybe
	}
}

// States of a packet, as xtables' bits (include/uapi/linux/netfilter/xt_conntrack.h). nf_tables has the same but for
// those of NAT, and untracked is nftUntracked there.
const (
	ctInvalid     = 1 << 0
	ctEstablished = 1 << 1
	ctNew         = 1 << 3
	ctNAT         = 1<<6 | 1<<7 // XT_CONNTRACK_STATE_SNAT, _DNAT
	ctUntracked   = 1 << 8
	nftUntracked  = 1 << 6
)

// ctState is the state of the packet. VXLAN flows get no replies, so outer packets stay new. An inner packet that meets
// a nat rule is the first of its flow; whether its destination was rewritten depends.
func ctState(m *machine) word {
	switch t := tracked(m); {
	case m.state.untracked != nil:
		return word{bits: ctUntracked}
	case t == no: // before conntrack: no entry reads as invalid (nf_ct_get)
		return word{bits: ctInvalid}
	case t == maybe:
		return word{unknown: ctNew | ctUntracked | ctInvalid}
	case m.packet.outer:
		return word{bits: ctNew}
	case m.later:
		return word{bits: ctEstablished, unknown: ctNAT}
	default:
		return word{bits: ctNew, unknown: ctNAT}
	}
}

func inState(mask uint32) question {
	return func(m *machine) truth { return ctState(m).masked(0, mask).not() }
}

func stateText(mask uint32) string {
	return stateNames(mask, "INVALID", "ESTABLISHED", "RELATED", "NEW", "", "", "SNAT", "DNAT", "UNTRACKED")
}

// stateNames are the names of the bits of mask.
func stateNames(mask uint32, names ...string) string {
	var words []string
	for i, n := range names {
		if mask&(1<<i) != 0 && n != "" {
			words = append(words, n)
		}
	}
	return strings.Join(words, ",")
}

// struct xt_state_info {u32 statemask}: as conntrack's, but UNTRACKED is bit 6, as nf_tables has it.
func xtState(i *info) {
	mask := i.u32(0)&0xf | i.u32(0)&nftUntracked<<2
	i.add(false, "--state "+stateText(mask), inState(mask))
}

// struct xt_conntrack_mtinfo1 to 3: origsrc, origdst, replsrc, repldst with their masks in 16 bytes each; u32
// expires[2]; u16 l4proto, ports of the four at 138, match_flags at 146, invert_flags, states of 8 bits in revision 1,
// 16 after; in revision 3, where ports are in host order, the ends of their ranges at 154.
func xtConntrack(i *info) {
	const wantState, wantProto, stateAlias = 1 << 0, 1 << 1, 1 << 13 // XT_CONNTRACK_*; alias: "-m state"
	flags, inverted := i.u16(146), i.u16(148)
	mask := uint32(i.u8(150))
	if i.revision >= 2 {
		mask = uint32(i.u16(150))
	}
	given := func(flag uint16) (is, not bool) {
		is, not = flags&flag != 0, inverted&flag != 0
		flags &^= flag
		return is, not
	}
	option := "--ctstate "
	if alias, _ := given(stateAlias); alias {
		i.text, option = "-m state", "--state "
	}
	withState, not := given(wantState)
	if withState {
		i.add(not, option+stateText(mask), inState(mask))
	}
	flow := func(not bool, text string, q question) { // without a flow only the state is looked at
		i.add(false, bang(not)+text, func(m *machine) truth {
			t := tracked(m)
			return t.and(invertIf(q(m), not)).or(t.not().and(truthOf(withState)))
		})
	}
	if is, not := given(wantProto); is {
		flow(not, fmt.Sprintf("--ctproto %d", i.u16(136)), in(dimProto, numbers(uint64(i.u16(136)))))
	}
	for k, end := range []string{"--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst"} {
		if is, not := given(1 << (2 + k)); is {
			addr, mask := i.bytes(32*k, addrLen(i.ipv6)), i.bytes(32*k+16, addrLen(i.ipv6))
			flow(not, end+" "+addrText(addr, mask), inTuple(k, dimSrc, dimDst, func(m *machine, d dim) truth {
				return masked(d, addr, mask)(m)
			}))
		}
		if is, not := given(1 << (8 + k)); is {
			low := i.be16(138 + 2*k)
			high := low
			if i.revision >= 3 {
				low, high = i.u16(138+2*k), i.u16(154+2*k)
			}
			flow(not, end+"port "+portText(low, high),
				inTuple(k, dimSport, dimDport, func(m *machine, d dim) truth { return m.is(d, portsBetween(low, high)) }))
		}
	}
	if flags != 0 {
		flow(false, fmt.Sprintf("(other conntrack matches 0x%x)", flags), unsure)
	}
}

// inTuple asks the field of a packet that is one of its flow's tuples: origsrc, origdst, replsrc, repldst. Replies come
// from where the packet goes to, and go to where it came from, unless its source is rewritten.
func inTuple(which int, src, dst dim, q func(m *machine, d dim) truth) question {
	return func(m *machine) truth {
		switch {
		case which == 0:
			return q(m, src)
		case which == 1:
			return q(m, m.original(dst))
		case m.later || m.early():
			return maybe
		case which == 2:
			return q(m, dst)
		default:
			return q(m, src)
		}
	}
}

// original is the field that holds what an inner packet was sent to.
func (m *machine) original(d dim) dim {
	if m.packet.outer {
		return d
	}
	return d.beforeNAT()
}
