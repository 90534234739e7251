package natrules

import (
	"fmt"
	"net/netip"
	"strings"
)

// chain is a list of rules in one table. Its rules are read when a walk first enters it.
type chain struct {
	backend string
	family  string // of its table: ip, ip6 or inet
	table   string
	name    string
	load    func() ([]*rule, error)

	rules  []*rule
	err    error
	loaded bool
}

// base is a chain that the kernel enters by itself.
type base struct {
	*chain
	hook     int
	priority int32
	nat      bool   // of type nat: asked only for the first packet of a tracked flow
	alone    bool   // it hooks its place by itself, as every chain does before 4.18
	drop     bool   // policy
	handle   uint64 // of the chain, counted up within its table; 0 in a legacy table
}

// rule is a rule of either backend: steps that run in order until one does not match.
type rule struct {
	chain *chain
	steps []step
	to    *chain // of a rule that always jumps or goes to the same chain
	asks  uint32 // bits of the mark that a match looks at
	text  string // in iptables-save or nft syntax
}

// step is one match, statement or target. It may change the machine's registers and marks.
type step func(m *machine) effect

// effect is what a step did: whether the rule goes on, and if it ends, in which ways it may.
type effect struct {
	match truth
	ends  []verdict
}

func matched(t truth) effect { return effect{match: t} }

func ends(v verdict) effect { return effect{yes, []verdict{v}} }

func always(e effect) step { return func(*machine) effect { return e } }

func natStep(n natRange) step { return always(ends(verdict{kind: verdictNAT, nat: n})) }

// Steps and effects that many matches, targets and expressions have.
var (
	goOn           = matched(yes)
	proceed        = always(goOn)
	unclear        = always(matched(maybe))
	accepted       = always(ends(verdict{kind: verdictAccept}))
	dropped        = always(ends(verdict{kind: verdictDrop}))
	unknownVerdict = always(ends(verdict{kind: verdictUnknown}))
	doubtful       = always(effect{maybe, []verdict{{kind: verdictUnknown}}})
)

// notrack takes a packet out of connection tracking, if that has not seen it yet (net/netfilter/xt_CT.c, xt_ct_target).
func notrack(m *machine) effect {
	t := tracked(m)
	m.notrack = t != yes
	if t == maybe {
		return matched(maybe)
	}
	return goOn
}

// verdictKind says how a rule ends.
type verdictKind uint8

const (
	verdictContinue verdictKind = iota
	verdictAccept
	verdictDrop
	verdictReturn
	verdictJump
	verdictGoto
	verdictNAT     // the source is rewritten, terminal
	verdictUnknown // not understood: it may do anything
)

type verdict struct {
	kind  verdictKind
	chain *chain // of a jump or goto; nil when the target could not be found
	nat   natRange
}

// natRange is the range that a NAT target maps the source into (struct nf_nat_range2).
type natRange struct {
	masquerade bool
	flags      uint32 // NF_NAT_RANGE_*
	min, max   netip.Addr
	minPort    uint16
	maxPort    uint16
	unsure     bool // addresses or ports come from a map or register that could not be followed
}

// Flags of a NAT range (include/uapi/linux/netfilter/nf_nat.h).
const (
	rangeMapIPs      = 0x01
	rangeProtoSpec   = 0x02
	rangeRandom      = 0x04
	rangePersistent  = 0x08
	rangeFullyRandom = 0x10
)

// change says what n does to the source of p.
func (n natRange) change(p *packet) Change {
	if n.unsure {
		return UnsureChange
	}
	if c := n.addrChange(p); c != NoChange {
		return c
	}
	// net/netfilter/nf_nat_core.c, get_unique_tuple: without either flag the original tuple is tried first.
	if n.flags&(rangeRandom|rangeFullyRandom) != 0 {
		return PortChange
	}
	if n.flags&rangeProtoSpec != 0 {
		switch sport := p.fields[dimSport]; {
		case n.minPort <= 1 && n.maxPort == 65535:
		case !sport.known:
			return UnsureChange
		case sport.set.within(portsBetween(n.minPort, n.maxPort)) != yes:
			return PortChange
		}
	}
	return NoChange
}

// target writes what addresses and ports n maps the source into: "192.0.2.1-192.0.2.2:1-1023".
func (n natRange) target() string {
	if n.unsure {
		return "(a map)"
	}
	s := ""
	if n.flags&rangeMapIPs != 0 {
		if s = n.min.String(); n.max != n.min {
			s += "-" + n.max.String()
		}
	}
	if n.flags&rangeProtoSpec != 0 {
		if n.min.Is6() && s != "" {
			s = "[" + s + "]"
		}
		s += fmt.Sprintf(":%d-%d", n.minPort, n.maxPort)
	}
	return s
}

// saved writes n as iptables-save does.
func (n natRange) saved() string {
	text, option, to := "-j SNAT", " --to-source ", n.target()
	if n.masquerade {
		text, option, to = "-j MASQUERADE", " --to-ports ", strings.TrimPrefix(to, ":")
	}
	if to != "" {
		text += option + to
	}
	for _, f := range n.flagNames("random", "random-fully", "persistent") {
		text += " --" + f
	}
	return text
}

// native writes n as nft does.
func (n natRange) native() string {
	text, to := "snat", n.target()
	if n.masquerade {
		text = "masquerade"
	}
	if to != "" {
		text += " to " + to
	}
	if flags := n.flagNames("random", "fully-random", "persistent"); len(flags) > 0 {
		text += " " + strings.Join(flags, ",")
	}
	return text
}

func (n natRange) flagNames(random, fullyRandom, persistent string) (names []string) {
	for _, f := range []struct {
		flag uint32
		name string
	}{{rangeRandom, random}, {rangeFullyRandom, fullyRandom}, {rangePersistent, persistent}} {
		if n.flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return names
}

func (n natRange) addrChange(p *packet) Change {
	low, high, src := n.min, n.max, p.fields[dimSrc]
	if n.masquerade {
		low, high = p.masquerade, p.masquerade
	}
	switch {
	case !n.masquerade && n.flags&rangeMapIPs == 0:
		return NoChange
	case low.IsValid() && src.known:
		within := src.set.within(between(addrNumber(low), addrNumber(high)))
		return map[truth]Change{yes: NoChange, no: AddrChange, maybe: UnsureChange}[within]
	case n.masquerade && n.flags&(rangeRandom|rangeFullyRandom) != 0:
		return NoChange // that of the port is certain, whatever the address
	default:
		return UnsureChange
	}
}
