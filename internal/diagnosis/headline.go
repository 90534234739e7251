package diagnosis

import (
	"fmt"
	"slices"
	"strings"
)

// headline says the verdict in a sentence or two.
func (j *judge) headline() string {
	switch j.state {
	case Failing:
		return j.failing()
	case Exposed:
		return j.exposed()
	case Unknown:
		return j.firstOpen()
	}
	tail := ""
	if slices.ContainsFunc(j.findings, func(f Finding) bool { return f.Severity == Warning }) {
		tail = " There are warnings below."
	}
	if !j.carriesVXLAN() {
		return "Nothing here sends or receives VXLAN." + tail
	}
	if _, _, ok := Interval(j.now); !ok {
		if slices.ContainsFunc(j.findings, func(f Finding) bool { return f.Code == CodeNoErrors }) {
			return "No device here can send spoiled checksums, and no bad one has arrived since boot." + tail
		}
		return "No device here can send spoiled checksums. One observation cannot tell whether bad ones arrive." + tail
	}
	return "No device here can send spoiled checksums, and none were seen to arrive as VXLAN." + tail
}

func (j *judge) failing() string {
	s := j.movedHeadline(Critical)
	if names := j.named(Active); len(names) > 0 {
		s = "NAT spoils the checksums of packets sent through " + list(names) + ". " + s
	}
	for _, f := range j.findings {
		switch f.Code {
		case CodeVXLANErrors:
			s += " VXLAN packets with bad checksums arrive (" + f.Evidence[0].Name + " " + f.Evidence[0].Value + ")."
		case CodeVXLANErrorsLikely:
			s += " Packets with bad checksums arrive, most likely VXLAN's (" + f.Evidence[0].Name + " " +
				f.Evidence[0].Value + ")."
		case CodeWireBad, CodePathNAT, CodePathOffload:
			s += " " + f.Summary
		default:
			continue
		}
	}
	return strings.TrimSpace(s)
}

func (j *judge) exposed() string {
	names := j.named(Exposed)
	if len(names) == 0 {
		return j.movedHeadline(Warning) + " No NATed flow is there now."
	}
	s := "Every condition of the stall holds for " + list(names)
	unread := slices.ContainsFunc(j.verdicts, func(v verdict) bool { return v.state == Exposed && v.nat.unread })
	if unread {
		s = "The NAT rules could not be judged, and every other condition of the stall holds for " + list(names)
	}
	seen := slices.ContainsFunc(j.verdicts, func(v verdict) bool {
		_, ok := j.ports.flows[v.key]
		return v.state == Exposed && ok
	})
	if !seen {
		return s + ". Whether NATed flows are there could not be seen."
	}
	return s + ". No NATed flow is there now."
}

// named lists the devices with a verdict, each once.
func (j *judge) named(s State) []string {
	var names []string
	seen := map[string]bool{}
	for _, v := range j.verdicts {
		if v.state == s && !seen[v.device.Name] {
			seen[v.device.Name] = true
			names = append(names, v.device.Name)
		}
	}
	return names
}

func (j *judge) firstOpen() string {
	for _, v := range j.verdicts {
		if v.state == Unknown {
			return "Not enough is known of " + list(j.named(Unknown)) + ": " + v.reason + "."
		}
	}
	if !j.succeeded(readDevices) {
		return "The VXLAN devices could not be read (" + j.because(readDevices) + ")."
	}
	for _, f := range j.findings {
		switch f.Code {
		case CodeErrorsUnclear, CodeInnerTCP, CodeFlowsNoDevice, CodeMovedUnknown, CodeResultMissing:
			return f.Summary
		}
	}
	return fmt.Sprintf("%d findings below.", len(j.findings))
}
