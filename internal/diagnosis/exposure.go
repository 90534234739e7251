package diagnosis

import (
	"fmt"
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

// device judges one device for both variants. Of the two families of an external device the worse one speaks.
func (j *judge) device(d node.Device) []verdict {
	verdicts := make([]verdict, 0, 2)
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		var worst verdict
		for i, family := range underlayFamilies(d) {
			if v := j.over(d, family, variant); i == 0 || worse(v.state, worst.state) {
				worst = v
			}
		}
		verdicts = append(verdicts, worst)
	}
	return verdicts
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
		v.natted = j.ports.of(d, v.key)
		v.nat = j.natCondition(v.key, d.Local, v.natted)
	}
	v.state, v.reason = j.decide(v)
	v.model = v.state
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

func worse(a, b State) bool {
	rank := map[State]int{Clear: 0, Unknown: 1, Exposed: 2, Active: 3}
	return rank[a] > rank[b]
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
			reason += "; NATed flows to its port are there now: " + j.flowText(v)
		}
		return Unknown, reason
	case v.nat.flows:
		if v.nat.against || v.nat.reason == natrules.WhyUnread {
			hold = hold[:len(hold)-1]
		}
		reason := strings.Join(hold, ", ") + ", and NATed flows are there now: " + j.flowText(v)
		if v.nat.against {
			reason += "; the rules say otherwise (" + keepsClear(v.nat.reason) + "), but what is seen counts"
		}
		return Active, reason + j.shared(v)
	case v.nat.unread:
		return Exposed, "exposed because " + v.nat.why + "; the other conditions hold: " +
			strings.Join(hold[:len(hold)-1], ", ") + "; " + j.flowText(v)
	default:
		return Exposed, strings.Join(hold, ", ") + "; " + j.flowText(v)
	}
}

// count writes a number of things; their plural is what with an s where it is not given.
func count(n uint64, what string, plural ...string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %s", n, append(plural, what+"s")[0])
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
