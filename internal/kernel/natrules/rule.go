package natrules

import (
	"net/netip"
	"slices"
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
	index int // position in the chain, for telling rules apart
	steps []step
	to    *chain        // of a rule that always jumps or goes to the same chain
	asks  uint32        // bits of the mark that a match looks at
	text  func() string // in iptables-save or nft syntax
}

// step is one match, statement or target. It may change the machine's registers and marks.
type step func(m *machine) effect

// effect is what a step did: whether the rule goes on, or how it ends.
type effect struct {
	match   truth
	verdict *verdict
	either  []verdict // the rule ends in one of these
}

func matched(t truth) effect { return effect{match: t} }

var goOn = effect{match: yes}

func ends(v verdict) effect { return effect{match: yes, verdict: &v} }

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

func (n natRange) randomFully() bool { return n.flags&rangeFullyRandom != 0 }

// change says what n does to the source of p, whose own addresses are local and whose underlay interfaces are ifs.
func (n natRange) change(p *packet, port *Port) Change {
	if n.unsure {
		return UnsureChange
	}
	if c := n.addrChange(p, port); c != NoChange {
		return c
	}
	// net/netfilter/nf_nat_core.c, get_unique_tuple: without either flag the original tuple is tried first.
	if n.flags&(rangeRandom|rangeFullyRandom) != 0 {
		return PortChange
	}
	if n.flags&rangeProtoSpec != 0 && (n.minPort > 1 || n.maxPort < 65535) {
		return PortChange
	}
	return NoChange
}

func (n natRange) addrChange(p *packet, port *Port) Change {
	local := addrsOf(port.Local, p.addrLen())
	if n.masquerade {
		// The new source is the address of the device the packet leaves by (inet_select_addr): the old one, unless the tunnel's
		// own address sits on another device.
		var own []netip.Addr
		for _, i := range port.Underlays {
			own = append(own, addrsOf(i.Addrs, p.addrLen())...)
		}
		if len(own) == 0 {
			return NoChange
		}
		for _, a := range local {
			if !slices.Contains(own, a) {
				return AddrChange
			}
		}
		return NoChange
	}
	if n.flags&rangeMapIPs == 0 {
		return NoChange
	}
	if !n.min.IsValid() || len(local) == 0 {
		return UnsureChange
	}
	for _, a := range local {
		if a.Less(n.min) || n.max.Less(a) {
			return AddrChange
		}
	}
	return NoChange
}

// machine runs the steps of one rule.
type machine struct {
	packet   *packet
	state    state
	hook     int
	priority int32
	regs     [64]partial // NFT_REG32_00 to NFT_REG32_15
	notrack  bool        // the rule takes the packet out of connection tracking
}

// state is what rules change on the packet's way. It is comparable: walks that meet in one state become one.
type state struct {
	mark, ctmark word
	untracked    *rule // the rule that took the packet out of connection tracking
	cleared      *rule // the last rule that took the masquerade mark away
	resetEarly   bool  // it did so outside a nat chain
}
