package diagnosis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// receivers judges the receiving half: do bad UDP checksums arrive, and are they VXLAN's? The kernel counts them for
// the whole namespace, whatever the port, so it takes a second counter to say whose they are:
//
//	                               InCsumErrors   conntrack invalid   drops of the VXLAN socket
//	no connection tracking         rises          –                   rises (not for UDP lengths up to 76)
//	connection tracking            rises          rises               stands still
//	and INVALID dropped in INPUT   stands still   rises               stands still
func (j *judge) receivers() {
	quiet := true
	for _, family := range families {
		c := j.counter(keyUDPCsum + family)
		switch {
		case c.rises():
			quiet = false
			j.badChecksums(family, c)
		case !j.carries[family]:
		case c.Total == nil:
			quiet = false
			j.raise(Unknown)
			if j.succeeded(readHost) || len(j.now.Results) == 0 {
				j.add(Finding{
					Code: CodeResultMissing, Severity: Warning, Family: family,
					Summary: "This kernel does not count bad UDP checksums over " + family +
						", or it could not be read: whether any arrive cannot be told.",
				})
			}
		case *c.Total > 0:
			quiet = quiet && c.still()
			j.add(Finding{
				Code: CodeErrorsEarlier, Severity: Info, Family: family,
				Summary: "Bad UDP checksums have arrived since boot, but none were seen to arrive now. A stalled connection " +
					"sends one every 1 to 32 s, so a longer interval may show them.",
				Evidence: []Evidence{c.evidence()}, Remedies: []Remedy{remedy("observe_longer")},
			})
		}
	}
	if j.carriesVXLAN() && quiet {
		j.withoutBad()
	}
}

// withoutBad judges what connection tracking calls invalid where no bad UDP checksum was counted.
func (j *judge) withoutBad() {
	inv := j.counter(keyInvalid)
	f := Finding{Code: CodeNoErrors, Severity: Good}
	_, _, compared := Interval(j.now)
	switch {
	case inv.rises() && j.countsDiscovery():
		f.Summary = "No bad UDP checksum was counted between the two observations. Connection tracking called " +
			count(inv.delta(), "packet") + " invalid, as kernels before 4.20 do with IPv6's neighbor discovery, so that " +
			"alone says nothing."
	case inv.rises():
		f.Code, f.Severity = CodeInvalidOnly, Warning
		f.Summary = "Connection tracking calls packets invalid while no bad UDP checksum is counted. On a node whose " +
			"firewall drops INVALID packets, as firewalld does, this is the only trace that bad VXLAN checksums leave; it " +
			"rises for other reasons too."
		f.Evidence = []Evidence{
			inv.evidence(), j.counter(keyUDPCsum + node.IPv4).evidence(), j.counter(keyUDPCsum + node.IPv6).evidence(),
		}
		f.Remedies = []Remedy{remedy("log_invalid")}
	case inv.Total == nil && !j.noConntrack():
		j.raise(Unknown)
		f.Code, f.Severity = CodeResultMissing, Warning
		f.Summary = "No bad UDP checksum was counted, but what connection tracking calls invalid could not be read: where " +
			"a firewall drops such packets, as firewalld does, that counter alone shows bad checksums. Whether any arrive " +
			"cannot be told."
		f.Evidence = []Evidence{inv.evidence()}
		f.Remedies = []Remedy{remedy("more_rights_for_invalid")}
	case compared:
		f.Summary = "No bad UDP checksum arrived between the two observations."
	default:
		f.Summary = "No bad UDP checksum has arrived since boot."
	}
	j.add(f)
}

func (j *judge) badChecksums(family string, c Counter) {
	var drops uint64
	still, evidence := true, []Evidence{c.evidence()}
	for _, s := range j.counters {
		if s.key == keyDrops+family {
			drops += s.delta()
			still = still && s.still()
			evidence = append(evidence, s.evidence())
		}
	}
	inv := j.counter(keyInvalid)
	if inv.Total != nil {
		evidence = append(evidence, inv.evidence())
	}
	if tcp := j.counter(keyTCPCsum); tcp.rises() {
		evidence = append(evidence, tcp.evidence())
	}
	tracked, flows := j.tracked(family)
	if tracked {
		evidence = append(evidence, Evidence{"tracked VXLAN flows (" + family + ")", fmt.Sprint(flows)})
	}
	f := Finding{Family: family, Evidence: evidence}
	f.Summary = count(c.delta(), "UDP packet") + " with a bad checksum arrived over " + family
	switch {
	case !j.carries[family] && j.succeeded(readDevices) && j.succeeded(readSockets):
		f.Code, f.Severity = CodeErrorsElsewhere, Warning
		f.Summary += ", and nothing here receives VXLAN over " + family + j.lookedFor(family) +
			": they are most likely not VXLAN's."
	case j.carries[family] && drops > 0:
		j.raise(Failing)
		f.Code, f.Severity = CodeVXLANErrors, Critical
		f.Summary += ", and the VXLAN socket dropped " + fmt.Sprint(drops) +
			": they are VXLAN's. Some sender spoils them; this node only sees the damage."
		f.Remedies = j.askSenders(family)
	case j.carries[family] && inv.delta()*10 >= c.delta()*8 && flows > 0:
		// Connection tracking drops the packet's state before the socket could count it, so the port is not known.
		j.raise(Failing)
		f.Code, f.Severity = CodeVXLANErrorsLikely, Critical
		f.Summary += ", connection tracking called " + fmt.Sprint(inv.delta()) + " packets invalid, and this node carries " +
			"VXLAN: most likely they are VXLAN's. This node cannot prove it, since with connection tracking no counter knows " +
			"the port: look at the senders."
		f.Remedies = j.askSenders(family)
	case j.carries[family] && still && len(j.now.Sockets) > 0 && (inv.still() || j.noConntrack()):
		f.Code, f.Severity = CodeErrorsElsewhere, Warning
		f.Summary += ", but neither the VXLAN socket nor connection tracking counted any: they went to another port (or " +
			"were tunnel packets of less than 77 bytes, which the socket does not count)."
	default:
		j.raise(Unknown)
		f.Code, f.Severity = CodeErrorsUnclear, Warning
		f.Summary += ". This node cannot tell whose they are: " + j.unclear(tracked, flows, inv) + ". Look at the senders."
		f.Remedies = j.askSenders(family)
	}
	j.add(f)
}

// portsOver are the VXLAN ports, of devices or named by a flag, over a family, each behind a word.
func (j *judge) portsOver(family, word string) (ports []string) {
	for _, p := range j.now.Ports {
		if slices.Contains(p.Families(), family) {
			ports = append(ports, word+strconv.Itoa(int(p.Port)))
		}
	}
	return ports
}

// lookedFor names the ports that no device and no kernel socket uses.
func (j *judge) lookedFor(family string) string {
	ports := j.portsOver(family, "")
	if len(ports) == 0 {
		return ""
	}
	return " (no device, no socket on port " + list(ports) + ")"
}

// unclear says what is missing for an answer.
func (j *judge) unclear(tracked bool, flows uint64, inv Counter) string {
	switch {
	case !j.carriesVXLAN():
		return "its VXLAN devices and sockets could not be read"
	case inv.Total == nil:
		return "its connection tracking counters could not be read"
	case !inv.rises():
		return "connection tracking did not count them, and the VXLAN socket's drops are not known"
	case !tracked:
		return "its VXLAN flows could not be read"
	case flows == 0:
		return "no VXLAN flow is tracked here"
	default:
		return "connection tracking counted only " + fmt.Sprint(inv.delta()) + " invalid packets"
	}
}

// tracked sums the tracked flows to VXLAN ports of one family; ok is false when none of them could be looked at.
func (j *judge) tracked(family string) (ok bool, flows uint64) {
	for key, p := range j.ports {
		if key.family == family && p.scanned {
			ok, flows = true, flows+p.tracked.Flows
		}
	}
	return ok, flows
}

// askSenders: the cause is on the nodes that send. A capture here shows which ones, since a received checksum is final.
func (j *judge) askSenders(family string) []Remedy {
	r := []Remedy{remedy("look_at_senders")}
	ports := j.portsOver(family, "dst port ")
	if len(ports) == 0 || len(ports) > 8 {
		return r
	}
	filter := "udp and (" + strings.Join(ports, " or ") + ") and udp[6:2] != 0"
	if family == node.IPv6 {
		filter = "ip6 and udp and (" + strings.Join(ports, " or ") + ") and ip6[46:2] != 0"
	}
	return append(r, remedy("capture_received", "{filter}", filter))
}

// countsDiscovery reports whether connection tracking here calls IPv6's neighbor and multicast listener discovery
// invalid, so that its counter rises on a healthy node all the time. Up to 4.19 nf_conntrack_in
// (net/netfilter/nf_conntrack_core.c) counts as invalid whatever a protocol's error handler lets pass untracked, as
// icmpv6_error does with discovery (6fe78fa484b1 took these handlers away).
func (j *judge) countsDiscovery() bool {
	return kernelversion.Before(j.now.Kernel.Release, 4, 20) && j.now.Host.UDP6.InDatagrams != nil
}
