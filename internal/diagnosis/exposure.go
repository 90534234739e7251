package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// verdict is the judgment on one device, variant and underlay family, with the conditions it rests on.
type verdict struct {
	device  node.Device
	key     portKey
	variant string

	checksum, offload, kernel condition
	nat                       natCondition
	natted                    natted // its NATed flows

	state  State
	reason string
	model  State // what the conditions alone say
}

// devices judges each device for both variants. Of the two families of an external device the worse one speaks.
func (j *judge) devices() {
	order := []State{Clear, Unknown, Exposed, Active}
	for _, d := range j.now.Devices {
		for _, variant := range variants {
			var worst verdict
			for _, family := range underlayFamilies(d) {
				v := j.over(d, family, variant)
				if slices.Index(order, v.state) > slices.Index(order, worst.state) {
					worst = v
				}
			}
			j.verdicts = append(j.verdicts, worst)
		}
	}
}

// over judges one device for one variant over one underlay family.
func (j *judge) over(d node.Device, family, variant string) verdict {
	v := verdict{
		device: d, key: portKey{family, d.Port}, variant: variant,
		checksum: checksumCondition(d, family, variant, j.now.Kernel.Release),
		offload:  offloadCondition(d),
		kernel:   j.kernels[[2]string{variant, family}],
	}
	if d.LinkNetns != nil {
		v.nat = elsewhere(d)
	} else {
		v.natted = j.ports.at(v.key).of(sentFrom(d, family))
		v.nat = j.natCondition(v)
	}
	v.model, v.reason = j.decide(v)
	v.state, v.reason = j.probed(v)
	return v
}

// elsewhere is the NAT condition of a device that was moved here: its socket and its outer packets stayed in the
// namespace it was made in (drivers/net/vxlan/vxlan_core.c, vxlan->net), so the rules, flows and counters of this one
// do not concern it.
func elsewhere(d node.Device) natCondition {
	netns := fmt.Sprint(*d.LinkNetns)
	if d.LinkNetnsPath != "" {
		netns += ", " + d.LinkNetnsPath
	}
	why := "the device was moved here: its outer packets leave through another network namespace (link-netnsid " + netns +
		"), whose rules and flows are not seen from here"
	return natCondition{condition: condition{unsure, why, Evidence{"link-netnsid", netns}}}
}

// conditions in the order in which they are explained.
func (v verdict) conditions() []condition {
	return []condition{v.checksum, v.offload, v.kernel, v.nat.condition}
}

// decide puts the conditions together. One that is known to be absent clears the device; after that, one that is not
// known leaves it unknown. NAT rules that nobody could read are taken to let NAT happen: that is exposed, and says so.
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
	flows := func() string { return j.flowText(v.key, v.natted.flows) }
	switch {
	case v.checksum.holds == no:
		return Clear, v.checksum.why
	case len(absent) > 0:
		return Clear, strings.Join(absent, "; ")
	case !v.device.Up:
		return Clear, "the device is down and sends nothing; every other condition holds or is unknown (" +
			strings.Join(append(hold, open...), "; ") + ")"
	case len(open) > 0:
		reason := strings.Join(open, "; ")
		if v.nat.flows {
			reason += "; NATed flows to its port are there now: " + flows()
		}
		return Unknown, reason
	case v.nat.flows:
		if v.nat.against || v.nat.rules.Why == natrules.WhyUnread {
			hold = hold[:len(hold)-1]
		}
		reason := strings.Join(hold, ", ") + ", and NATed flows are there now: " + flows()
		if v.nat.against {
			reason += "; the rules say otherwise (" + keepsClear(v.nat.rules.Why) + "), but what is seen counts"
		}
		if n := len(j.sharing(v)); n > 1 {
			reason += fmt.Sprintf(" (%d devices use this port, and conntrack does not tell whose flows these are)", n)
		}
		return Active, reason
	case v.nat.unread:
		return Exposed, "exposed because " + v.nat.why + "; the other conditions hold: " +
			strings.Join(hold[:len(hold)-1], ", ") + "; " + flows()
	default:
		return Exposed, strings.Join(hold, ", ") + "; " + flows()
	}
}

// sharing names the devices whose flows cannot be told from those of v's.
func (j *judge) sharing(v verdict) []string {
	return j.ports.at(v.key).senders[sentFrom(v.device, v.key.family)]
}

func (j *judge) exposures() []Exposure {
	list := make([]Exposure, 0, len(j.verdicts))
	for _, v := range j.verdicts {
		// Not by the kernel: that is a verdict, which alerts do not trust.
		settled := v.checksum.holds == no || v.offload.holds == no || !v.device.Up
		list = append(list, Exposure{
			v.device.Name, v.device.Port, v.key.family, v.variant, v.state, v.reason, v.state == Clear && settled,
		})
	}
	return list
}
