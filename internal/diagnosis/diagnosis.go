// Package diagnosis judges what was observed of a node: which VXLAN device can send packets with a spoiled checksum,
// whether it does so now, whether bad packets arrive, why, and what to type. Everything here is a pure function of
// plain data: no kernel, no clock, no input or output but the saved observation's reader and writer.
package diagnosis

import (
	"slices"

	"vxlan_exporter/internal/node"
)

// State is the verdict on a node, or on one device and variant.
type State string

// The verdicts on a node, with the exit status of the check command.
const (
	Healthy State = "healthy" // 0: nothing is wrong that this node can see
	Exposed State = "exposed" // 1: every condition of the failure holds and nothing stops NAT, but no NATed flow is there
	// 2: exposed with NATed flows present, or bad checksums rise with evidence that they are VXLAN's
	Failing State = "failing"
	Unknown State = "unknown" // 3: could not tell
)

// The verdicts on one device and variant; Exposed and Unknown serve here too.
const (
	Clear  State = "clear"  // a condition of the failure is known to be absent
	Active State = "active" // all conditions hold and NATed flows to the device's port are there now
)

// ExitStatus is the exit status of the check command for a verdict on a node.
func (s State) ExitStatus() int {
	if i := slices.Index([]State{Healthy, Exposed, Failing}, s); i >= 0 {
		return i
	}
	return 3
}

// Severity ranks findings.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical" // packets are being lost
	Warning  Severity = "warning"  // packets can be lost, or something that matters could not be seen
	Info     Severity = "info"     // worth knowing when reading the rest
	Good     Severity = "ok"       // looked at, and in order
)

// Rank orders severities, the worst first.
func (s Severity) Rank() int { return slices.Index([]Severity{Critical, Warning, Info, Good}, s) }

// Variants of the failure that are not a condition of one VXLAN device; node.ZeroChecksum and node.OffloadedChecksum
// are.
const (
	TunnelOffload = "tunnel_offload" // C: the NIC or hypervisor below spoils tunneled packets
	InnerChecksum = "inner_checksum" // D: the inner TCP checksum is bad, the outer one fine
)

// Diagnosis is the judgment on one observation.
type Diagnosis struct {
	State     State      `json:"state"`
	Headline  string     `json:"headline"`  // one or two sentences that follow the state
	Exposures []Exposure `json:"exposures"` // two per VXLAN device, in the order of the devices
	Findings  []Finding  `json:"findings"`  // worst first
}

// Exposure is the verdict on one device and one variant.
type Exposure struct {
	Device  string `json:"device"`
	Port    uint16 `json:"port"`
	Family  string `json:"family"`  // the underlay family that decided; an external device has two
	Variant string `json:"variant"` // node.ZeroChecksum or node.OffloadedChecksum
	State   State  `json:"state"`   // Clear, Exposed, Active or Unknown
	Reason  string `json:"reason"`  // what decided it
	// clear for a reason that no NATed flow can refute: not by the NAT rules or the kernel alone
	Settled bool `json:"settled"`
}

// Finding is one thing worth telling.
type Finding struct {
	Code     Code       `json:"code"`
	Severity Severity   `json:"severity"`
	Device   string     `json:"device,omitempty"`
	Port     uint16     `json:"port,omitempty"`
	Family   string     `json:"family,omitempty"`
	Variant  string     `json:"variant,omitempty"`
	Summary  string     `json:"summary"`
	Evidence []Evidence `json:"evidence,omitempty"`
	Remedies []Remedy   `json:"remedies,omitempty"`
}

// Evidence is one observed value, under the kernel's own name for it.
type Evidence struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Remedy is something to do about a finding, with its price.
type Remedy struct {
	Title string `json:"title"`
	// for a POSIX shell, for this very device; empty when no one command does it
	Commands     []string `json:"commands,omitempty"`
	Effect       string   `json:"effect,omitempty"`
	Cost         string   `json:"cost,omitempty"`
	CuresStalled bool     `json:"cures_stalled"`         // rescues connections that are stalled already, Also included
	Also         []string `json:"also,omitempty"`        // without these, stalled connections stay stalled
	Persist      string   `json:"persistence,omitempty"` // what undoes it
	Diagnostic   bool     `json:"diagnostic,omitempty"`  // it finds out more and changes nothing
}

// Judge judges an observation; an earlier one of the same node in it gives the counters rates. It never panics,
// whatever the observation holds.
func Judge(n *node.Node) Diagnosis {
	if n == nil {
		return Diagnosis{State: Unknown, Headline: "Nothing was observed: there is no node to judge."}
	}
	j := newJudge(n)
	j.devices()
	j.results()
	j.senders()
	j.moved()
	j.looseFlows()
	j.receivers()
	j.innerTCP()
	j.underlays()
	j.wire()
	j.path()
	return j.diagnosis()
}

// Exposures judges each device of n for each variant: the sending half of the failure.
func Exposures(n *node.Node) []Exposure {
	j := newJudge(n)
	j.devices()
	return j.exposures()
}
