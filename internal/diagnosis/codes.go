package diagnosis

// Code identifies a kind of finding. Codes are stable: tests, runbooks and scripts rely on them.
type Code string

// The sending half.
const (
	CodeNATSpoils         Code = "nat_spoils_checksums"      // active: NATed flows leave through an exposed device
	CodeNATCouldSpoil     Code = "nat_could_spoil"           // exposed: the rules NAT the outer packet
	CodeMarkRestored      Code = "mark_restored"             // exposed: later packets of a connection get the mark
	CodeChainOrder        Code = "chain_order_unknown"       // not told: it depends on the order of two chains
	CodeExposedUnread     Code = "exposed_rules_unread"      // exposed because the NAT rules were not read or understood
	CodeExposureUnknown   Code = "exposure_unknown"          // a condition could not be read
	CodeClear             Code = "device_clear"              // a condition is absent, and which
	CodeOffloadAlone      Code = "clear_by_offload_alone"    // clear only while tx-checksum-ip-generic stays off
	CodeLeftOver          Code = "nat_flows_left_over"       // NATed entries of a port that is not tracked any more
	CodeRulesContradicted Code = "rules_contradicted"        // NATed flows although the rules say none
	CodeKernelAlone       Code = "clear_by_kernel_alone"     // NATed flows, and the kernel alone is why they do no harm
	CodeSeenEarlier       Code = "nat_flows_seen_earlier"    // no NATed flow now, but there were some
	CodeSharedPort        Code = "shared_port"               // several devices on one port: flows cannot be told apart
	CodeDNAT              Code = "dnat_on_vxlan_port"        // the destination of VXLAN packets is rewritten
	CodeFlowsNoDevice     Code = "nat_flows_without_device"  // NATed flows, and no device that sends them
	CodeMovedAway         Code = "device_moved_away"         // a VXLAN socket without a device; NAT does no harm
	CodeMovedNATed        Code = "device_moved_away_nated"   // the same, and its packets are NATed
	CodeMovedUnknown      Code = "device_moved_away_unknown" // the same, and whether NAT happens could not be told
	CodeNotracked         Code = "vxlan_not_tracked"         // NOTRACK: conntrack is blind, and NAT cannot happen
	CodeRequestedOn       Code = "offload_requested_on"      // off [requested on]
	CodeNoDevices         Code = "no_vxlan_devices"
)

// The receiving half.
const (
	CodeVXLANErrors       Code = "vxlan_checksum_errors"        // bad checksums rise and the VXLAN socket drops with them
	CodeVXLANErrorsLikely Code = "vxlan_checksum_errors_likely" // they and conntrack invalid rise together
	CodeErrorsUnclear     Code = "udp_checksum_errors_unclear"  // bad checksums rise and nothing tells whose
	CodeErrorsElsewhere   Code = "udp_checksum_errors_elsewhere"
	CodeErrorsEarlier     Code = "udp_checksum_errors_earlier" // a total, and no rise seen now
	CodeInvalidOnly       Code = "conntrack_invalid_only"      // invalid rises while InCsumErrors stands still
	CodeInnerTCP          Code = "inner_tcp_checksum_errors"
	CodeTCPErrors         Code = "tcp_checksum_errors" // no VXLAN here
	CodeTunnelOffload     Code = "underlay_tunnel_offload"
	CodeNoErrors          Code = "no_checksum_errors"
	CodeWireBad           Code = "wire_bad_packets"         // the packet capture has just seen bad packets
	CodeWireEarlier       Code = "wire_bad_packets_earlier" // it saw some, more than a minute ago
)

// The probe of the path.
const (
	CodePathNAT          Code = "path_nat_spoils"   // proven: marked packets with unfinished checksums alone are lost
	CodePathOffload      Code = "path_offload_lost" // unfinished checksums are lost, marked or not
	CodePathMTU          Code = "path_mtu"          // packets that fill the MTU are lost
	CodePathOK           Code = "path_ok"           // what could be spoiled arrives
	CodePathRefutes      Code = "path_refutes"      // the model says exposed, and what it says would be spoiled arrives
	CodePathContradicted Code = "path_contradicts"  // the model says clear, and the probe proves otherwise
	CodePathUnknown      Code = "path_unknown"      // nothing was answered, or no verdict can be had of the answers
)

// The observation itself.
const (
	CodeResultMissing  Code = "result_missing"              // a collector got no answer, and what is lost by it
	CodeStaleScan      Code = "conntrack_stale"             // the flows are those of an earlier scan
	CodeCounterReset   Code = "counter_reset"               // a counter fell between two observations
	CodeNotComparable  Code = "observations_not_comparable" // the two are not of one boot of one node, or not in order
	CodeOneObservation Code = "one_observation"             // no second one: no rates
)

// Codes lists every code, in the order of the documentation.
func Codes() []Code {
	return []Code{
		CodeNATSpoils, CodeNATCouldSpoil, CodeMarkRestored, CodeChainOrder, CodeExposedUnread, CodeExposureUnknown, CodeClear,
		CodeOffloadAlone, CodeLeftOver, CodeRulesContradicted,
		CodeKernelAlone, CodeSeenEarlier, CodeSharedPort, CodeDNAT, CodeFlowsNoDevice, CodeMovedAway, CodeMovedNATed,
		CodeMovedUnknown, CodeNotracked, CodeRequestedOn, CodeNoDevices,
		CodeVXLANErrors, CodeVXLANErrorsLikely, CodeErrorsUnclear, CodeErrorsElsewhere, CodeErrorsEarlier, CodeInvalidOnly,
		CodeInnerTCP,
		CodeTCPErrors, CodeTunnelOffload, CodeNoErrors, CodeWireBad, CodeWireEarlier,
		CodePathNAT, CodePathOffload, CodePathMTU, CodePathOK, CodePathRefutes, CodePathContradicted, CodePathUnknown,
		CodeResultMissing, CodeStaleScan, CodeCounterReset, CodeNotComparable, CodeOneObservation,
	}
}
