package lab

import "cmp"

// Rules names the NAT rules of the sending node.
type Rules string

// The rule forms. Those of kube-proxy are word for word its own (pkg/proxy/iptables, ipvs and nftables of Kubernetes).
const (
	RulesNone  Rules = "none"  // nothing masquerades; the NodePort still works
	RulesOld   Rules = "old"   // kube-proxy before 1.16.13, 1.17.9, 1.18.6: the mark stays on
	RulesFixed Rules = "fixed" // kube-proxy since: the mark is cleared before MASQUERADE

	// RulesBypassed: the fixed form, behind a MASQUERADE of everything that leaves for outside the pods' network. It
	// matches the outer packet itself, marked or not.
	RulesBypassed Rules = "fixed-bypassed"
	// RulesFlannel: the fixed form, behind flannel's own chain as it was before flannel learned to leave kube-proxy's mark
	// alone. It masquerades the inner packet, which so never reaches KUBE-POSTROUTING and keeps its mark: the outer packet
	// is masqueraded by the fixed form itself.
	RulesFlannel Rules = "fixed-flannel"
	// RulesFlannelKube: the same with flannel's later chain (pkg/trafficmngr/iptables), which begins by returning
	// kube-proxy's mark.
	RulesFlannelKube Rules = "fixed-flannel-kube"
	// RulesDocker: the fixed form, behind Docker's MASQUERADE of its bridge's network. It matches neither inner nor outer
	// packet.
	RulesDocker Rules = "fixed-docker"

	RulesIPVS        Rules = "ipvs-fixed"     // the fixed form as kube-proxy's ipvs mode words it
	RulesNFTables    Rules = "nftables-fixed" // kube-proxy's nftables mode, which has only ever had the fixed form
	RulesNFTablesOld Rules = "nftables-old"   // nftables mode without the xor: a hand-written ruleset
)

// AllRules lists every rule form.
func AllRules() []Rules {
	return []Rules{
		RulesNone, RulesOld, RulesFixed, RulesBypassed, RulesFlannel, RulesFlannelKube, RulesDocker,
		RulesIPVS, RulesNFTables, RulesNFTablesOld,
	}
}

func (r Rules) nftables() bool { return r == RulesNFTables || r == RulesNFTablesOld }

// Backend chooses the iptables programs: iptables-legacy or iptables-nft.
type Backend string

// The backends.
const (
	Legacy Backend = "legacy"
	NFT    Backend = "nft"
)

// Family is the address family of the underlay. The pods' network is IPv4 in both cases.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Receiver says what connection tracking does on the receiving node.
type Receiver string

// The receivers.
const (
	ReceiverNone      Receiver = "none"      // no rule needs conntrack, so it has no hooks
	ReceiverTrack     Receiver = "track"     // conntrack is active, as on every kube-proxy node
	ReceiverFirewalld Receiver = "firewalld" // and INPUT drops what it finds invalid
)

// MarkReset says where the masquerade mark is cleared for the VXLAN port on its way out, if anywhere.
type MarkReset string

// The places.
const (
	MarkResetNone   MarkReset = "none"
	MarkResetFilter MarkReset = "filter" // filter OUTPUT
	MarkResetMangle MarkReset = "mangle" // mangle OUTPUT
)

// Options describe a rig. The zero value of a field that has no false is replaced by the default it names.
type Options struct {
	Pair        int     // nodes have the addresses 192.168.77.(2*Pair+1) and the next; default 0
	Rules       Rules   // default RulesNone
	RandomFully bool    // MASQUERADE --random-fully; nftables mode always randomises
	Backend     Backend // default Legacy
	MarkBit     uint    // bit of the masquerade mark, 1 to 31; default 14, kube-proxy's own

	Family      Family // default IPv4
	Port        uint16 // VXLAN port; default 8472, flannel's and Linux' own
	UDPChecksum bool   // outer UDP checksum of the sender's device
	TxChecksum  bool   // tx-checksum-ip-generic of the sender's device

	Receiver  Receiver  // default ReceiverNone
	Notrack   bool      // raw NOTRACK for the VXLAN port on the sender
	MarkReset MarkReset // default MarkResetNone

	TxRehash   bool // net.core.txrehash on the sender: a new path after a SYN timeout
	UDPTimeout int  // net.netfilter.nf_conntrack_udp_timeout on the sender, seconds; 0 leaves 30

	// ImitateA makes the sender behave like a kernel with the zero-checksum bug: what is NATed and has no outer checksum
	// leaves with 0xffff in the field, as long as TxChecksum is on.
	ImitateA bool
}

// LiveFailure are the options that show the failure on any kernel: the outer checksum is left to offload and NAT spoils
// it.
func LiveFailure() Options {
	return Options{
		Rules: RulesOld, RandomFully: true, Backend: Legacy,
		Family: IPv4, UDPChecksum: true, TxChecksum: true, Receiver: ReceiverTrack,
	}.withDefaults()
}

func (o Options) withDefaults() Options {
	o.Rules = cmp.Or(o.Rules, RulesNone)
	o.Backend = cmp.Or(o.Backend, Legacy)
	o.Family = cmp.Or(o.Family, IPv4)
	o.Receiver = cmp.Or(o.Receiver, ReceiverNone)
	o.MarkReset = cmp.Or(o.MarkReset, MarkResetNone)
	o.Port = cmp.Or(o.Port, 8472)
	o.MarkBit = cmp.Or(o.MarkBit, 14) // kube-proxy --iptables-masquerade-bit
	return o
}

func (o Options) mark() uint32 { return 1 << o.MarkBit }
