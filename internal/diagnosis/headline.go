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
	says := "No device here can send spoiled checksums, and none were seen to arrive as VXLAN."
	_, _, compared := Interval(j.now)
	switch {
	case !j.carriesVXLAN():
		says = "Nothing here sends or receives VXLAN."
	case !compared && j.found(CodeNoErrors) != nil:
		says = "No device here can send spoiled checksums, and no bad one has arrived since boot."
	case !compared:
		says = "No device here can send spoiled checksums. One observation cannot tell whether bad ones arrive."
	}
	if slices.ContainsFunc(j.findings, func(f Finding) bool { return f.Severity == Warning }) {
		says += " There are warnings below."
	}
	return says
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
			s += " Packets with bad checksums arrive, most likely VXLAN's (" + f.Evidence[0].Name + " " + f.Evidence[0].Value +
				")."
		case CodeWireBad, CodePathNAT, CodePathOffload:
			s += " " + f.Summary
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
	seen := false
	for _, v := range j.verdicts {
		if v.state == Exposed {
			seen = seen || j.ports.at(v.key).scanned
			if v.nat.unread {
				s = "The NAT rules could not be judged, and every other condition of the stall holds for " + list(names)
			}
		}
	}
	if !seen {
		return s + ". Whether NATed flows are there could not be seen."
	}
	return s + ". No NATed flow is there now."
}

// named lists the devices with a verdict, each once.
func (j *judge) named(s State) []string {
	var names []string
	listed := map[string]bool{}
	for _, v := range j.verdicts {
		if v.state == s && !listed[v.device.Name] {
			listed[v.device.Name] = true
			names = append(names, v.device.Name)
		}
	}
	return names
}

func (j *judge) firstOpen() string {
	if i := slices.IndexFunc(j.verdicts, func(v verdict) bool { return v.state == Unknown }); i >= 0 {
		return "Not enough is known of " + list(j.named(Unknown)) + ": " + j.verdicts[i].reason + "."
	}
	if !j.succeeded(readDevices) {
		return "The VXLAN devices could not be read (" + j.because(readDevices) + ")."
	}
	f := j.found(CodeErrorsUnclear, CodeInnerTCP, CodeFlowsNoDevice, CodeMovedUnknown, CodeResultMissing)
	if f == nil {
		return fmt.Sprintf("%d findings below.", len(j.findings))
	}
	return f.Summary
}
