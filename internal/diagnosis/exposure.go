package diagnosis

import (
	"fmt"
	"strings"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// verdict is the judgement on one device, variant and underlay family, with the conditions it rests on.
type verdict struct {
	device  node.Device
	key     portKey
	variant string

	checksum, offload, kernel condition
	nat                       natCondition

	state  State
	reason string
}

// device judges one device for both variants. Of the two families of an external device the worse one speaks.
func (j *judge) device(d node.Device) []verdict {
	verdicts := make([]verdict, 0, 2)
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		var worst verdict
		for i, family := range underlayFamilies(d) {
			v := verdict{
				device: d, key: portKey{family, d.Port}, variant: variant,
				checksum: checksumCondition(d, family, variant),
				offload:  offloadCondition(d),
				kernel:   j.kernels[[2]string{variant, family}],
			}
			v.nat = j.natCondition(v.key)
			if d.LinkNetns != nil {
				v.nat = elsewhere(*d.LinkNetns)
			}
			v.state, v.reason = j.decide(v)
			if i == 0 || worse(v.state, worst.state) {
				worst = v
			}
		}
		verdicts = append(verdicts, worst)
	}
	return verdicts
}

// elsewhere is the NAT condition of a device that was moved here: its socket and its outer packets stayed in the namespace it was
// made in (drivers/net/vxlan/vxlan_core.c, vxlan->net), so the rules, flows and counters of this one do not concern it.
func elsewhere(netns int32) natCondition {
	why := fmt.Sprintf("the device was moved here: its outer packets leave through another network namespace (link-netnsid %d), whose rules and flows are not seen from here", netns)
	return natCondition{condition: condition{unsure, why, Evidence{"link-netnsid", fmt.Sprint(netns)}}}
}

func worse(a, b State) bool {
	rank := map[State]int{Clear: 0, Unknown: 1, Exposed: 2, Active: 3}
	return rank[a] > rank[b]
}

// conditions in the order in which they are explained.
func (v verdict) conditions() []condition {
	return []condition{v.checksum, v.offload, v.kernel, v.nat.condition}
}

// decide puts the conditions together. One that is known to be absent clears the device; after that, one that is not known leaves
// it unknown. NAT rules that nobody could read are taken to let NAT happen: that is exposed, and says so.
func (j *judge) decide(v verdict) (State, string) {
	var absent, open, hold []string
	for _, c := range v.conditions() {
		switch c.holds {
		case no:
			absent = append(absent, c.why)
		case unsure:
			open = append(open, c.why)
		default:
			hold = append(hold, c.why)
		}
	}
	switch {
	case v.checksum.holds == no:
		return Clear, v.checksum.why
	case len(absent) > 0:
		return Clear, strings.Join(absent, "; ")
	case !v.device.Up:
		return Clear, "the device is down and sends nothing; every other condition holds or is unknown (" + strings.Join(append(hold, open...), "; ") + ")"
	case len(open) > 0:
		reason := strings.Join(open, "; ")
		if v.nat.flows {
			reason += "; NATed flows to its port are there now: " + j.flowText(v.key)
		}
		return Unknown, reason
	case v.nat.flows:
		if v.nat.against || v.nat.reason == natrules.WhyUnread {
			hold = hold[:len(hold)-1]
		}
		reason := strings.Join(hold, ", ") + ", and NATed flows are there now: " + j.flowText(v.key)
		if v.nat.against {
			reason += "; the rules say otherwise (" + keepsClear(v.nat.reason) + "), but what is seen counts"
		}
		return Active, reason + j.shared(v)
	case v.nat.unread:
		return Exposed, "exposed because " + v.nat.why + "; the other conditions hold: " + strings.Join(hold[:len(hold)-1], ", ") + "; " + j.flowText(v.key)
	default:
		return Exposed, strings.Join(hold, ", ") + "; " + j.flowText(v.key)
	}
}

// shared says that flows cannot be told apart: conntrack knows ports, not devices.
func (j *judge) shared(v verdict) string {
	if n := len(j.devices[v.key]); n > 1 {
		return fmt.Sprintf(" (%d devices use this port, and conntrack does not tell whose flows these are)", n)
	}
	return ""
}

// flowText says what conntrack has of one port. Zero NATed flows, no tracked flow, and "could not look" are different answers.
func (j *judge) flowText(key portKey) string {
	p, ok := j.flows[key]
	var s string
	switch {
	case j.noConntrack():
		return "no connection tracking on this node"
	case !ok:
		return "flows not seen (" + j.because(readConntrack) + ")"
	case p.SNAT > 0:
		s = fmt.Sprintf("%d of %s with a rewritten source", p.SNAT, count(p.Flows, "flow"))
	case p.Flows == 0:
		s = "no flow tracked"
	default:
		s = count(p.Flows, "flow") + " tracked, none NATed"
	}
	if j.now.Conntrack.Scan != nil && j.now.Conntrack.Scan.Stale {
		s += ", as of an earlier scan"
	}
	return s
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (j *judge) flowEvidence(key portKey) Evidence {
	e := Evidence{Name: fmt.Sprintf("conntrack flows to %s port %d", key.family, key.port)}
	if p, ok := j.flows[key]; ok {
		e.Value = fmt.Sprintf("%d tracked, %d source-NATed, %d destination-NATed", p.Flows, p.SNAT, p.DNAT)
	} else {
		e.Value = j.flowText(key)
	}
	return e
}

func (j *judge) exposures() []Exposure {
	list := make([]Exposure, 0, len(j.verdicts))
	for _, v := range j.verdicts {
		list = append(list, Exposure{v.device.Name, v.device.Port, v.key.family, v.variant, v.state, v.reason})
	}
	return list
}
