package diagnosis

import (
	"fmt"
	"net/netip"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/rtnl"
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
		if k := (portKey{s.Family, s.Port}); len(j.ports.devices[k]) == 0 && !listed[k] {
			listed[k] = true
			keys = append(keys, k)
		}
	}
	return keys
}

// moved judges the outer packets of devices that were moved away. Their checksum and offload settings are only to be
// seen where they are; they are taken to be as the kernel makes them.
func (j *judge) moved() {
	for _, k := range j.movedAway() {
		v := verdict{
			device: node.Device{Link: rtnl.Link{Name: "the moved device", Port: k.port}}, key: k,
			natted: j.ports.loose[k],
		}
		v.nat = j.natCondition(k, netip.Addr{}, v.natted)
		f := Finding{
			Code: CodeMovedAway, Severity: Info, Port: k.port, Family: k.family,
			Evidence: []Evidence{v.nat.evidence, j.flowEvidence(k)},
		}
		f.Evidence = append(f.Evidence, v.natted.quotes...)
		f.Summary = "The kernel has a VXLAN socket on " + v.port() +
			", and no device here uses it: the device was moved to another network namespace, as Docker Swarm " +
			"moves its own. Its outer packets leave through this one: "
		switch {
		case v.nat.holds == no:
			f.Summary += v.nat.why + ", so they keep their checksum."
		case v.nat.flows:
			f.Code, f.Severity = CodeMovedNATed, Critical
			f.Summary += "NAT rewrites them (" + j.flowText(v) + "), and spoils their checksum unless the moved device has " +
				txChecksum + " off or, on a kernel " +
				"that is fixed for " + node.ZeroChecksum + ", sends none."
			j.raise(Failing)
		case v.nat.holds == yes && !v.nat.unread:
			f.Code, f.Severity = CodeMovedNATed, Warning
			f.Summary += v.nat.why + ", which spoils their checksum unless the moved device has " + txChecksum +
				" off or, on a kernel that is fixed for " +
				node.ZeroChecksum + ", sends none. No NATed flow is there now."
			j.raise(Exposed)
		default:
			f.Code, f.Severity = CodeMovedUnknown, Warning
			f.Summary += "whether NAT rewrites them could not be told, since " + v.nat.why + "."
			j.raise(Unknown)
		}
		f.Remedies = j.movedRemedies(v)
		j.add(f)
	}
}

func (j *judge) movedRemedies(v verdict) []Remedy {
	look := Remedy{
		Title: "Look in the namespace of the device",
		Commands: []string{
			"lsns -t net -o NS,PID,NSFS,COMMAND", "nsenter --net=NAMESPACE vxlan_exporter check",
		},
		Effect: "the first command lists the namespaces (Docker's are below /run/docker/netns); the second shows the " +
			"device, its checksum and its offload",
		Cost: "none", Diagnostic: true,
	}
	if v.nat.holds != yes || v.nat.unread && !v.nat.flows {
		return []Remedy{look}
	}
	off := offloadOff("DEVICE")
	off.Commands[0] = "nsenter --net=NAMESPACE " + off.Commands[0]
	r := []Remedy{look, off}
	if v.nat.reason == natrules.WhyBypassed {
		r = append(r, bypassing(v))
	}
	return append(r, notrack(v, v.nat.rule))
}

// movedHeadline says what devices that were moved away do; empty when they do no harm.
func (j *judge) movedHeadline(s Severity) string {
	for _, f := range j.findings {
		if f.Code == CodeMovedNATed && f.Severity == s {
			verb := "would be NATed"
			if s == Critical {
				verb = "are NATed"
			}
			return fmt.Sprintf("Outer packets to %s port %d, of a device that was moved to another network namespace, %s here.",
				f.Family, f.Port, verb)
		}
	}
	return ""
}
