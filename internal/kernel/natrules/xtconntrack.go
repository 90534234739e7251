package natrules

import (
	"fmt"
	"strings"
)

// struct xt_connmark_mtinfo1 {u32 mark, mask; u8 invert}; no flow, no match (net/netfilter/xt_connmark.c).
func xtConnmark(i *info, _ bool) xtPart {
	mark, mask, invert := i.u32(0), i.u32(4), i.u8(8) != 0
	return xtPart{
		text: "-m connmark " + bang(invert) + "--mark " + markText(mark, mask),
		step: matchStep(func(m *machine) truth {
			if t := tracked(m); t != yes {
				return t
			}
			return invertIf(m.state.ctmark.masked(mark, mask), invert)
		}),
	}
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

// Bits of a conntrack state match (include/uapi/linux/netfilter/xt_conntrack.h).
const (
	ctStateInvalid     = 1 << 0
	ctStateEstablished = 1 << 1
	ctStateRelated     = 1 << 2
	ctStateNew         = 1 << 3
	ctStateSNAT        = 1 << 6
	ctStateDNAT        = 1 << 7
	ctStateUntracked   = 1 << 8
)

// ctState is the state that the first packet of an outer flow is in: new, unless it is not tracked. VXLAN flows get no replies, so
// they stay new. An inner packet that meets a nat rule is the first of its flow as well; elsewhere it may be a later one.
func ctState(m *machine, mask uint32) truth {
	known := truthOf(mask&ctStateNew != 0)
	switch t := tracked(m); {
	case t == yes && m.packet.outer:
		return known
	case t == yes && m.later && mask&(ctStateDNAT|ctStateSNAT) == 0:
		return truthOf(mask&ctStateEstablished != 0)
	case t == yes && m.later:
		return truthOf(mask&ctStateEstablished != 0).or(maybe)
	case t == yes:
		if mask&ctStateNew != 0 && mask&(ctStateDNAT|ctStateSNAT) != 0 {
			return yes
		}
		if mask&(ctStateDNAT|ctStateSNAT) != 0 {
			return maybe
		}
		return known
	case m.state.untracked != nil:
		return truthOf(mask&ctStateUntracked != 0)
	case t == no: // before conntrack: no entry reads as invalid (nf_ct_get)
		return truthOf(mask&ctStateInvalid != 0)
	default:
		return maybe
	}
}

// struct xt_conntrack_mtinfo1 to 3: match_flags at 146, invert_flags at 148, then the states: 8 bits in revision 1, 16 after.
func xtConntrack(i *info, revision uint8) xtPart {
	const wantState, stateAlias = 1 << 0, 1 << 13 // XT_CONNTRACK_STATE, XT_CONNTRACK_STATE_ALIAS: written with "-m state"
	flags, inverted := i.u16(146), i.u16(148)
	mask := uint32(i.u8(150))
	if revision >= 2 {
		mask = uint32(i.u16(150))
	}
	text, option := "-m conntrack", "--ctstate "
	if flags&stateAlias != 0 {
		text, option = "-m state", "--state "
		flags &^= stateAlias
	}
	if flags&wantState != 0 {
		text += " " + bang(inverted&wantState != 0) + option + stateNames(mask, "INVALID", "ESTABLISHED", "RELATED", "NEW", "", "", "SNAT", "DNAT", "UNTRACKED")
	}
	if flags&^wantState != 0 {
		text += fmt.Sprintf(" (other conntrack matches 0x%x)", flags&^wantState)
	}
	return xtPart{text: text, step: matchStep(func(m *machine) truth {
		t := yes
		if flags&wantState != 0 {
			t = invertIf(ctState(m, mask), inverted&wantState != 0)
		}
		if flags&^wantState != 0 {
			t = t.and(maybe)
		}
		return t
	})}
}

func stateNames(mask uint32, names ...string) string {
	var words []string
	for i, n := range names {
		if mask&(1<<i) != 0 && n != "" {
			words = append(words, n)
		}
	}
	return strings.Join(words, ",")
}

// struct xt_state_info {u32 statemask}: as conntrack's, but UNTRACKED is bit 6.
func xtState(i *info, _ bool) xtPart {
	mask := i.u32(0)
	ct := mask & 0xf
	if mask&(1<<6) != 0 {
		ct |= ctStateUntracked
	}
	return xtPart{
		text: "-m state --state " + stateNames(mask, "INVALID", "ESTABLISHED", "RELATED", "NEW", "", "", "UNTRACKED"),
		step: matchStep(func(m *machine) truth { return ctState(m, ct) }),
	}
}
