// Package conntrack reads the VXLAN flows of the connection tracking table over ctnetlink: streamed, parsed in place,
// without an allocation per entry, and above all without holding packets back.
//
// One receive of a dump is one uninterrupted walk over hash buckets with bottom halves off (ctnetlink_dump_table,
// net/netfilter/nf_conntrack_netlink.c): no packet is received on that CPU until the reply buffer is full. So the more
// selective a filter is, the longer packets wait: a filter that matches nothing among a million entries stops them for
// 0.3 s. A scan therefore picks the cheapest request whose reply buffers still fill often enough, and looks at ports
// and NAT itself.
package conntrack

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Status bits of an entry (enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h). The *_DONE
// bits are set on every flow and say nothing.
const (
	StatusSrcNAT = 0x10 // IPS_SRC_NAT
	StatusDstNAT = 0x20 // IPS_DST_NAT
)

// Target is one kind of flow to look for: UDP over one address family to one original destination port.
type Target struct {
	Family uint8 // unix.AF_INET or unix.AF_INET6
	Port   uint16
}

// Flow is one tracked flow that matches a Target. Reply addresses are those of CTA_TUPLE_REPLY, so without NAT
// ReplySource is Destination and ReplyDestination is Source; both are invalid when the kernel sent no reply tuple.
type Flow struct {
	Target           int    // index into the scan's targets
	ID               uint32 // CTA_ID
	Zone             uint16 // CTA_ZONE, or the zone of the original tuple
	Status           uint32 // CTA_STATUS
	Source           netip.AddrPort
	Destination      netip.AddrPort
	ReplySource      netip.AddrPort
	ReplyDestination netip.AddrPort
	Timeout          uint32 // CTA_TIMEOUT: seconds until the entry ends if no packet comes
}

// SNAT reports whether the source was rewritten. The tuples count as well as the status bit: IPVS rewrites and leaves
// no bit.
func (f *Flow) SNAT() bool {
	return f.Status&StatusSrcNAT != 0 || f.ReplyDestination.IsValid() && f.ReplyDestination != f.Source
}

// DNAT reports whether the destination was rewritten.
func (f *Flow) DNAT() bool {
	return f.Status&StatusDstNAT != 0 || f.ReplySource.IsValid() && f.ReplySource != f.Destination
}

// Visitor is told the flows of a scan. A scan that the kernel spoiled is begun again: Begin says to forget everything
// visited so far. The Flow is only valid during the call.
type Visitor interface {
	Begin()
	Visit(f *Flow)
}

// Strategy is what the kernel is asked for.
type Strategy string

// The strategies. Auto chooses between the others before each scan; only those two describe a scan that was made.
const (
	Auto   Strategy = "auto"
	Full   Strategy = "full"   // everything: most work, shortest time with softirqs held off
	Filter Strategy = "filter" // UDP of one family, where enough of the table is UDP
)

// Stats describes a completed scan. The JSON is part of a saved observation.
type Stats struct {
	Duration time.Duration `json:"duration_ns"` // wall time, spoiled attempts included
	// softirqs of that CPU were held off at most so long at a stretch
	LongestReceive time.Duration `json:"longest_receive_ns"`
	Entries        uint64        `json:"entries"` // entries the kernel sent
	// a filter was asked for and the kernel honored it (NLM_F_DUMP_FILTERED, and nothing else came back)
	Filtered bool     `json:"filtered"`
	Strategy Strategy `json:"strategy"` // full or filter

	Attempts int `json:"-"` // 1 and one for every attempt that was given up and begun again
}

// families of a set of targets, in the order v4, v6.
func families(targets []Target) []uint8 {
	first, end := 1, 1
	for _, t := range targets {
		switch t.Family {
		case unix.AF_INET:
			first = 0
		case unix.AF_INET6:
			end = 2
		}
	}
	return bothFamilies[first:end]
}

// bothFamilies is never written to; it spares an allocation per scan.
var bothFamilies = [2]uint8{unix.AF_INET, unix.AF_INET6}

func familyIndex(family uint8) int {
	if family == unix.AF_INET6 {
		return 1
	}
	return 0
}
