package diagnosis

import (
	"fmt"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// movedAway lists the ports on which the kernel has a VXLAN socket while no device here uses them: their device was
// moved to another network namespace. Its socket and its outer packets stay in the one that it was made in
// (drivers/net/vxlan/vxlan_core.c, vxlan->net), and the mark of the inner packet does not cross (net/core/skbuff.c,
// skb_scrub_packet).
func (j *judge) movedAway() []portKey {
	if !j.succeeded(readDevices) {
		return nil
	}
	var keys []portKey
	listed := map[portKey]bool{}
	for _, s := range j.now.Sockets {
		if k := (portKey{s.Family, s.Port}); len(j.ports.at(k).devices) == 0 && !listed[k] {
			listed[k] = true
			keys = append(keys, k)
		}
	}
	return keys
}

// moved judges the outer packets of devices that were moved away. Their checksum and offload settings are only to be
// seen where they are; they are taken to be as the kernel makes them.
func (j *judge) moved() {
	const unless = "their checksum unless the moved device has " + txChecksum + " off or, on a kernel that is fixed for " +
		node.ZeroChecksum + ", sends none."
	for _, k := range j.movedAway() {
		v := verdict{key: k, natted: j.ports.at(k).loose}
		v.nat = j.natCondition(v)
		f := Finding{
			Code: CodeMovedUnknown, Severity: Warning, Port: k.port, Family: k.family,
			Evidence: append([]Evidence{v.nat.evidence}, j.flowEvidence(k, v.natted.quotes)...),
			Remedies: []Remedy{remedy("find_moved_device")},
		}
		says, state := "", Healthy
		switch {
		case v.nat.holds == no:
			f.Code, f.Severity = CodeMovedAway, Info
			says = v.nat.why + ", so they keep their checksum."
		case v.nat.flows:
			f.Code, f.Severity, state = CodeMovedNATed, Critical, Failing
			says = "NAT rewrites them (" + j.flowText(k, v.natted.flows) + "), and spoils " + unless
		case v.nat.holds == yes && !v.nat.unread:
			f.Code, state = CodeMovedNATed, Exposed
			says = v.nat.why + ", which spoils " + unless + " No NATed flow is there now."
		default:
			state = Unknown
			says = "whether NAT rewrites them could not be told, since " + v.nat.why + "."
		}
		j.raise(state)
		f.Summary = "The kernel has a VXLAN socket on " + k.String() + ", and no device here uses it: the device was moved " +
			"to another network namespace, as Docker Swarm moves its own. Its outer packets leave through this one: " + says
		if f.Code == CodeMovedNATed {
			f.Remedies = append(f.Remedies, remedy("offload_off_elsewhere"))
			if v.nat.rules.Why == natrules.WhyBypassed {
				f.Remedies = append(f.Remedies, j.moveRule(v))
			}
			f.Remedies = append(f.Remedies, j.remedy(v, "notrack"))
		}
		j.add(f)
	}
}

// movedHeadline says what devices that were moved away do; empty when they do no harm.
func (j *judge) movedHeadline(s Severity) string {
	verb := "would be NATed"
	if s == Critical {
		verb = "are NATed"
	}
	for _, f := range j.findings {
		if f.Code == CodeMovedNATed && f.Severity == s {
			return fmt.Sprintf("Outer packets to %s, of a device that was moved to another network namespace, %s here.",
				portKey{f.Family, f.Port}, verb)
		}
	}
	return ""
}
