// Package node holds an observation of a node, as plain data. Collectors fill it; metrics, diagnosis, the check command
// and the status page are pure functions of it. It is also the format of a saved observation (JSON), so a field is only
// ever added.
package node

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/label"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/kernel/rtnl"
)

// Schema is the version of the saved observation's format.
const Schema = 1

// Address families as they stand in labels.
const (
	IPv4 = label.IPv4
	IPv6 = label.IPv6
)

// Family is that of an address.
func Family(a netip.Addr) string {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Directions of packets, seen from the node.
const (
	In  = "in"
	Out = "out"
)

// Variants of the failure that a VXLAN device can be exposed to.
const (
	ZeroChecksum      = "zero_checksum"      // A: outer checksum off, NAT turns the zero field into 0xffff
	OffloadedChecksum = "offloaded_checksum" // B: outer checksum on, NAT spoils the sum that offload still has to finish
)

// Node is one observation of one node's network namespace.
type Node struct {
	Schema   int       `json:"schema"`
	Time     time.Time `json:"time"`     // when the observation began
	Hostname string    `json:"hostname"` // kernel.hostname
	Exporter string    `json:"exporter"` // version of the program that observed

	Results map[string]Result `json:"results"` // outcome by collector name

	Kernel    Kernel           `json:"kernel"`
	Host      Host             `json:"host"`
	Sockets   []procnet.Socket `json:"sockets,omitempty"` // the kernel's own VXLAN sockets
	Devices   []Device         `json:"devices,omitempty"`
	Underlays []Underlay       `json:"underlays,omitempty"`
	Ports     []Port           `json:"ports,omitempty"` // every VXLAN port in use or configured
	Conntrack Conntrack        `json:"conntrack"`
	NATRules  natrules.State   `json:"nat_rules"`
	Wire      *Wire            `json:"wire,omitempty"` // nil when the collector is off
	Path      *Path            `json:"path,omitempty"` // the last round of the probe; nil when there was none

	// Earlier is the observation that a running exporter compares its counters with, minutes old: see Counters. nil: there
	// is none.
	Earlier *Node `json:"earlier,omitempty"`
}

// Counters is the part of n that a later observation compares its counters with; nil where none was read.
func (n *Node) Counters() *Node {
	if n.Host.UDP4.InCsumErrors == nil && n.Host.UDP6.InCsumErrors == nil && n.Host.ConntrackInvalid == nil {
		return nil
	}
	return &Node{
		Schema: n.Schema, Time: n.Time, Hostname: n.Hostname, Exporter: n.Exporter, Kernel: Kernel{BootID: n.Kernel.BootID},
		Host: n.Host, Sockets: n.Sockets,
	}
}

// Kernel says which kernel this is and what is known of its NAT checksum bugs.
type Kernel struct {
	kernelversion.Info
	BootID   string    `json:"boot_id,omitempty"`  // /proc/sys/kernel/random/boot_id
	SelfTest *SelfTest `json:"selftest,omitempty"` // stored result of the self-test, when it is of this boot and release

	SelfTestError string `json:"selftest_error,omitempty"` // why a stored result is not used; empty when none is stored
}

// Host holds the counters of the whole network namespace. nil: this kernel has no such field, or the line could not be
// read.
type Host struct {
	UDP4 procnet.UDPCounters `json:"udp4"` // /proc/net/snmp, line Udp
	UDP6 procnet.UDPCounters `json:"udp6"` // /proc/net/snmp6, Udp6*

	TCPInCsumErrors  *uint64 `json:"tcp_in_csum_errors,omitempty"` // /proc/net/snmp, Tcp InCsumErrors (both families)
	TCPSynRetrans    *uint64 `json:"tcp_syn_retrans,omitempty"`    // /proc/net/netstat, TcpExt TCPSynRetrans
	TCPTimeouts      *uint64 `json:"tcp_timeouts,omitempty"`       // /proc/net/netstat, TcpExt TCPTimeouts
	TCPTimeoutRehash *uint64 `json:"tcp_timeout_rehash,omitempty"` // /proc/net/netstat, TcpExt TcpTimeoutRehash

	// invalid of /proc/net/stat/nf_conntrack, or of ctnetlink, all CPUs
	ConntrackInvalid *uint64 `json:"conntrack_invalid,omitempty"`

	// What the observations since the start of the program tell.
	// by family: when InCsumErrors was last seen to have risen
	CsumErrorsRose map[string]time.Time `json:"csum_errors_rose,omitempty"`
	// rise of ConntrackInvalid a second that is usual here
	ConntrackInvalidUsual *float64 `json:"conntrack_invalid_usual,omitempty"`
}

// Device is a VXLAN device with its offload features.
type Device struct {
	rtnl.Link
	// name of the underlay NIC, by the kernel or by an address
	Underlay string `json:"underlay,omitempty"`
	// of the namespace that LinkNetns is the number of, as for setns(2)
	LinkNetnsPath string           `json:"link_netns_path,omitempty"`
	Features      ethtool.Features `json:"features,omitempty"`
	FeaturesError string           `json:"features_error,omitempty"` // why Features is empty
}

// Underlay is a NIC below one or more VXLAN devices.
type Underlay struct {
	Index         int              `json:"index"`
	Name          string           `json:"name"`
	MTU           uint32           `json:"mtu,omitempty"`
	Driver        ethtool.Driver   `json:"driver"`
	LinkUp        *bool            `json:"link_up,omitempty"`
	Features      ethtool.Features `json:"features,omitempty"`
	FeaturesError string           `json:"features_error,omitempty"`
	PrivateFlags  map[string]bool  `json:"private_flags,omitempty"` // those that name a checksum
}

// Port is a UDP port that carries VXLAN, and the address families of the underlay it is used on.
type Port struct {
	Port   uint16 `json:"port"`
	IPv4   bool   `json:"ipv4"`
	IPv6   bool   `json:"ipv6"`
	Device bool   `json:"device"` // a device uses it; false: only a flag names it
}

// Families lists the families of p in label form.
func (p Port) Families() []string {
	var f []string
	if p.IPv4 {
		f = append(f, IPv4)
	}
	if p.IPv6 {
		f = append(f, IPv6)
	}
	return f
}

// Conntrack holds what the connection tracking table says of the VXLAN ports. Ports is empty when no scan has ever
// completed; the Result of the collector says why.
type Conntrack struct {
	Entries    *uint64        `json:"entries,omitempty"`        // net.netfilter.nf_conntrack_count, this namespace
	Limit      *uint64        `json:"limit,omitempty"`          // net.netfilter.nf_conntrack_max
	Buckets    *uint64        `json:"buckets,omitempty"`        // net.netfilter.nf_conntrack_buckets, all namespaces
	UDPTimeout *time.Duration `json:"udp_timeout_ns,omitempty"` // net.netfilter.nf_conntrack_udp_timeout

	Ports    []ConntrackPort `json:"ports,omitempty"`
	NATFlows []NATFlow       `json:"nat_flows,omitempty"` // the first few, as evidence
	Sources  []NATSource     `json:"nat_sources,omitempty"`
	Scan     *Scan           `json:"scan,omitempty"`

	// from one scan to the next at most, at the present pace; 0: not known
	ScanInterval time.Duration `json:"scan_interval_ns,omitempty"`

	// SeenOverflow counts NATed flows that SeenSNAT and SeenDNAT leave out, because more live at a time than are
	// remembered. One flow may be counted several times.
	SeenOverflow uint64 `json:"seen_overflow,omitempty"`
}

// ConntrackPort counts the tracked flows whose original destination is one VXLAN port.
type ConntrackPort struct {
	Family   string `json:"family"`
	Port     uint16 `json:"port"`
	Flows    uint64 `json:"flows"`     // tracked now
	SNAT     uint64 `json:"snat"`      // of these, with the source rewritten
	DNAT     uint64 `json:"dnat"`      // of these, with the destination rewritten
	SeenSNAT uint64 `json:"seen_snat"` // distinct source-NATed flows since the exporter started
	SeenDNAT uint64 `json:"seen_dnat"`
}

// NATSource is what is known of the source-NATed flows to one VXLAN port that were sent from one address. That address,
// the original source, tells which device the flows belong to. Ports.SNAT counts the flows of more addresses than are
// listed, if there are many.
type NATSource struct {
	Family  string     `json:"family"`
	Port    uint16     `json:"port"`
	Address netip.Addr `json:"address"`
	Flows   uint64     `json:"flows"` // there now
	// until the last ends if no packet comes (CTA_TIMEOUT); 0: not sent
	Remaining time.Duration `json:"remaining_ns,omitempty"`

	// What the scans since the start of the program tell. Seen is when one last found such a flow. Born and Used are
	// times after which a flow was made, and a packet met one: those of the scan before the one that noticed. They are
	// zero for what the first scan found.
	Seen time.Time `json:"seen"`
	Born time.Time `json:"born,omitzero"`
	Used time.Time `json:"used,omitzero"`
}

// NATFlow is one NATed VXLAN flow: what was sent, and what left (the reply tuple, reversed).
type NATFlow struct {
	Source         netip.AddrPort `json:"source"`
	Destination    netip.AddrPort `json:"destination"`
	NATSource      netip.AddrPort `json:"nat_source"`
	NATDestination netip.AddrPort `json:"nat_destination"`
	Zone           uint16         `json:"zone,omitempty"`
}

func (f NATFlow) String() string {
	return fmt.Sprintf("%s to %s left as %s to %s", f.Source, f.Destination, f.NATSource, f.NATDestination)
}

// Scan describes the conntrack scan that Conntrack.Ports comes from.
type Scan struct {
	Time time.Time `json:"time"` // when it ended
	conntrack.Stats
	Stale bool `json:"stale"` // a later scan failed; this is the last complete one
}

// SelfTest is the stored result of the self-test: what NAT on this very kernel does to an outer checksum.
type SelfTest struct {
	Time    time.Time        `json:"time"`
	BootID  string           `json:"boot_id"`
	Release string           `json:"release"`
	Results []SelfTestResult `json:"results"`
}

// SelfTestResult is the verdict on one variant and one underlay family.
type SelfTestResult struct {
	Variant  string `json:"variant"` // zero_checksum or offloaded_checksum
	Family   string `json:"family"`
	Verdict  string `json:"verdict"`          // affected, fixed or unknown
	Reason   string `json:"reason,omitempty"` // why it is unknown
	Evidence *Sums  `json:"evidence,omitempty"`
}

// Sums are the numbers read from one outer packet after NAT.
type Sums struct {
	Field            uint16 `json:"field"`               // UDP checksum field on the wire
	Correct          uint16 `json:"correct"`             // what it should be
	SourcePort       uint16 `json:"source_port"`         // source port on the wire
	SourcePortPreNAT uint16 `json:"source_port_pre_nat"` // source port before NAT
}

func (s Sums) String() string {
	text := fmt.Sprintf("checksum %#04x instead of %#04x", s.Field, s.Correct)
	if s.SourcePortPreNAT != 0 {
		text += fmt.Sprintf(", source port %d before NAT", s.SourcePortPreNAT)
	}
	return text
}

// Device returns the device called name.
func (n *Node) Device(name string) (Device, bool) {
	i := slices.IndexFunc(n.Devices, func(d Device) bool { return d.Name == name })
	if i < 0 {
		return Device{}, false
	}
	return n.Devices[i], true
}

// Wire is what the wire collector captured on the underlay NICs since it started. Numbers of sampled packets are scaled
// up by the sampling ratio in force when each was captured.
type Wire struct {
	Interfaces     []string    `json:"interfaces"`       // NICs with a capture
	SampleRatio    float64     `json:"sample_ratio"`     // share of incoming packets that is judged now; 1: all
	SampleRatioOut float64     `json:"sample_ratio_out"` // the same of outgoing ones
	Captured       uint64      `json:"captured"`         // packets judged
	Lost           uint64      `json:"lost"`             // packets not queued (PACKET_STATISTICS tp_drops)
	Packets        []WireCount `json:"packets,omitempty"`
	Bad            []WirePeer  `json:"bad,omitempty"`
	Samples        []BadPacket `json:"samples,omitempty"` // the last bad packets, newest first
}

// WireCount counts packets of one family, direction and verdict.
type WireCount struct {
	Family    string  `json:"family"`
	Direction string  `json:"direction"` // in or out
	Verdict   string  `json:"verdict"`
	Packets   float64 `json:"packets"`
}

// WirePeer counts bad packets by their sender (in) or receiver (out) and variant.
type WirePeer struct {
	Direction string  `json:"direction"` // in or out
	Peer      string  `json:"peer"`      // address, or "other" past the limit
	Variant   string  `json:"variant"`
	Packets   float64 `json:"packets"`
}

// BadPacket is one bad packet as captured.
type BadPacket struct {
	Time        time.Time      `json:"time"`
	Interface   string         `json:"interface"`
	Direction   string         `json:"direction"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	Variant     string         `json:"variant"`
	Sums
}
