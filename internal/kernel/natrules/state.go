// Package natrules reads the kernel's own NAT rules, nftables over nfnetlink and legacy iptables by getsockopt, and
// judges what they do to an outer VXLAN packet that carries kube-proxy's masquerade mark.
package natrules

import (
	"net/netip"
	"time"

	"vxlan_exporter/internal/kernel/label"
)

// State is what the rules of this network namespace say.
type State struct {
	Rulesets []Ruleset `json:"rulesets,omitempty"`
	Outer    []Outer   `json:"outer,omitempty"` // one per family and VXLAN port
}

// Backends.
const (
	Legacy = "legacy" // ip_tables, ip6_tables
	NFT    = "nft"    // nf_tables: native rules and iptables-nft
)

// Ruleset is what was found of one family's rules in one backend.
type Ruleset struct {
	Family  string       `json:"family"`  // ipv4 or ipv6
	Backend string       `json:"backend"` // Legacy or NFT
	Status  label.Status `json:"status"`  // none: no NAT rules there
	Error   string       `json:"error,omitempty"`

	MarkState   MarkState `json:"masquerade_mark"`
	Mark        uint32    `json:"mark,omitempty"`         // the masquerade mark found (or given); 0 when none
	RandomFully *bool     `json:"random_fully,omitempty"` // of the rule that masquerades the mark; nil when there is none
	Quotes      []Rule    `json:"quotes,omitempty"`       // the rules that this rests on
}

// MarkState says whether a packet that carries the masquerade mark has it cleared before it can be masqueraded again.
type MarkState string

// The states of the masquerade mark.
const (
	MarkCleared  MarkState = "cleared"  // the mark is cleared before MASQUERADE: kube-proxy's fixed form
	MarkKept     MarkState = "kept"     // marked packets are masqueraded with the mark left on: the old form
	MarkBypassed MarkState = "bypassed" // cleared for some packets, but others, or the outer one, are NATed before
	MarkAbsent   MarkState = "absent"   // no rule masquerades a mark
	// MarkUnknown: a rule on the way could not be understood. It has no state of its own in the metric: all states are
	// 0.
	MarkUnknown MarkState = "unknown"
)

// Rule is a rule quoted for a person.
type Rule struct {
	Role  string `json:"role"` // one of Role…
	Table string `json:"table"`
	Chain string `json:"chain"`
	Text  string `json:"text"` // in iptables-save or nft syntax
}

// Outer is the fate of the outer packet of one family and port, over all backends, when the inner packet was marked for
// masquerade.
type Outer struct {
	Family string     `json:"family"`
	Port   uint16     `json:"port"`
	Local  netip.Addr `json:"local,omitzero"` // of the devices that name it; not valid: of those that name none
	Change Change     `json:"change"`
	Why    Why        `json:"why"`
	Other  *Rule      `json:"other,omitempty"` // of WhyOrder: the rule that decides it in the other order
	Rule   *Rule      `json:"rule,omitempty"`  // the rule that decides it

	// Since is the time of the first reading that found it so, after one that did not; zero: every reading did. Read
	// leaves it zero.
	Since time.Time `json:"since,omitzero"`

	Senders []SenderFate `json:"senders,omitempty"` // whose packets they carry; the worst decides
}

// SenderFate is what happens to the outer packets of one class of senders.
type SenderFate struct {
	Sender string `json:"sender"` // "the node itself", "pods or containers in 10.244.0.0/24 (cni0)"
	Change Change `json:"change"`
	Rule   *Rule  `json:"rule,omitempty"`
}

// Change is what NAT does to the outer source.
type Change string

// The changes.
const (
	NoChange     Change = "none"    // not NATed, or to the very address and port it has
	PortChange   Change = "port"    // the source port is randomised
	AddrChange   Change = "address" // SNAT to another address, with or without the port
	UnsureChange Change = "unknown" // the rules could not be read or understood
)

// Why says what decides an Outer.
type Why string

// The reasons.
const (
	WhyCleared   Why = "cleared"    // the mark is cleared before the rule that would masquerade
	WhyMarkReset Why = "mark_reset" // the mark is cleared for the VXLAN port on the way out
	WhyNotrack   Why = "notrack"    // the VXLAN port is not tracked
	WhyNoRule    Why = "no_rule"    // no rule NATs it
	WhyNotRandom Why = "not_random" // masqueraded, but the source port is kept
	WhyKept      Why = "kept"       // masqueraded because of the mark
	WhyBypassed  Why = "bypassed"   // NATed by a rule before the mark is cleared, or by one that does not ask for it
	WhyRestored  Why = "restored"   // masqueraded because a rule gives the mark to later packets of a connection too
	WhyUnread    Why = "unread"     // rules not read or not understood
	// WhyOrder: it depends on the order of chains of one hook and priority, which is that of their registration and not
	// known. Before 4.18 the NAT chain that comes first binds every flow.
	WhyOrder Why = "order"
)
