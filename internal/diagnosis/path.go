package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// PathVerdict is what a round of the probe says of one device and address family of the overlay.
type PathVerdict struct {
	Device string         `json:"device"`
	Family string         `json:"family"`
	State  node.PathState `json:"state"`
	// what spoils the checksums; empty when nothing does or it is not known
	Variant string   `json:"variant,omitempty"`
	Reason  string   `json:"reason"`
	Senders []string `json:"senders,omitempty"` // addresses that the state is true of

	Remedies []Remedy `json:"remedies,omitempty"`
}

// PathStandsFor says what the probe's packets do not meet: an ok is not said of these.
const PathStandsFor = "packets of the node itself from these addresses; not forwarded ones, which meet FORWARD and " +
	"rules on input interfaces, nor those that rules match by owner, nor those of other network namespaces"

// Paths judges the last round of the probe.
func Paths(n *node.Node) []PathVerdict {
	j := newJudge(n)
	j.devices()
	return j.withRemedies()
}

// PathStates is Paths without remedies.
func PathStates(n *node.Node) []PathVerdict { return newJudge(n).paths }

// PathState is the state that counts most of several verdicts.
func PathState(all []PathVerdict) node.PathState {
	states := make([]node.PathState, 0, len(all))
	for _, v := range all {
		states = append(states, v.State)
	}
	return node.WorstPath(states...)
}

// judgePaths puts the peers of each device and family together.
func (j *judge) judgePaths() []PathVerdict {
	if j.now.Path == nil {
		return nil
	}
	var all []PathVerdict
	at := map[[2]string]int{}
	for _, p := range j.now.Path.Peers {
		key := [2]string{p.Device, p.Family}
		i, ok := at[key]
		if !ok {
			i, at[key] = len(all), len(all)
			all = append(all, PathVerdict{
				Device: p.Device, Family: p.Family, State: node.PathUnreachable, Reason: "no peer was asked",
			})
		}
		j.count(&all[i], p)
	}
	return all
}

// count adds one peer to the verdict on its device.
func (j *judge) count(v *PathVerdict, p node.PathPeer) {
	d, _ := j.now.Device(p.Device)
	for _, s := range p.Senders {
		state, reason := s.State, s.Reason
		if state == node.PathOffload && j.natted(d) {
			state, reason = node.PathNAT, reason+"; the outer packets are NATed, marked or not"
		}
		from := s.Source.String()
		switch {
		case len(v.Senders) == 0, state != v.State && node.WorstPath(state, v.State) == state:
			v.State, v.Senders = state, []string{from}
			v.Reason = fmt.Sprintf("to %s from %s: %s", p.Peer, from, reason)
		case state == v.State && !slices.Contains(v.Senders, from):
			v.Senders = append(v.Senders, from)
		}
	}
	switch v.State {
	case node.PathNAT:
		v.Variant = variantOf(d, j.now.Kernel.Release)
	case node.PathOffload:
		v.Variant = TunnelOffload
	default:
		v.Variant = ""
	}
}

// natted reports whether outer packets of d are NATed whatever their mark: flows say so, or a rule that does not ask
// for it.
func (j *judge) natted(d node.Device) bool {
	for _, f := range underlayFamilies(d) {
		p := j.ports.at(portKey{f, d.Port})
		o, _ := p.outer(d.Local)
		if p.of(sentFrom(d, f)).flows > 0 || o.Why == natrules.WhyBypassed && changesSource(o.Change) {
			return true
		}
	}
	return false
}

// variantOf is the variant that NAT makes of the device's outer checksum setting; empty where that is not known.
func variantOf(d node.Device, release string) string {
	found := ""
	for _, f := range underlayFamilies(d) {
		for _, variant := range variants {
			switch c := checksumCondition(d, f, variant, release); {
			case c.holds == unsure, c.holds == yes && found != "" && found != variant:
				return ""
			case c.holds == yes:
				found = variant
			}
		}
	}
	return found
}

// pathOf is the verdict of the probe on a device; the worst of the overlay's families.
func (j *judge) pathOf(device string) (worst PathVerdict, ok bool) {
	for _, p := range j.paths {
		if p.Device == device && (!ok || p.State != worst.State && node.WorstPath(p.State, worst.State) == p.State) {
			worst, ok = p, true
		}
	}
	return worst, ok
}

// probed is the state of a verdict in the light of the probe. What the probe loses by NAT is active, whatever the
// conditions say. What arrives clears only where the conditions are of every marked packet: NAT takes place then, and
// does no harm.
func (j *judge) probed(v verdict) (State, string) {
	switch p, ok := j.pathOf(v.device.Name); {
	case !ok:
	case p.State == node.PathNAT && v.checksum.holds != no:
		return Active, "proven by the probe " + p.Reason
	case p.State == node.PathOK && v.model != Clear && j.everyMarkNATed(v):
		return Clear, "refuted by the probe: every marked packet is NATed, and arrives all the same " + p.Reason
	}
	return v.model, v.reason
}

// everyMarkNATed: the rules NAT every marked packet, or at least those of the node itself, which the probe's are. Over
// which of its underlay's families an external device sent the probe is not known: the other one must NAT nothing.
func (j *judge) everyMarkNATed(v verdict) bool {
	for _, f := range underlayFamilies(v.device) {
		other := verdict{device: v.device, key: portKey{f, v.key.port}}
		if f != v.key.family && j.ruleCondition(other).holds != no {
			return false
		}
	}
	if v.nat.holds != yes || v.nat.rules.Why != natrules.WhyKept || v.nat.unread {
		return false
	}
	senders := v.nat.rules.Senders
	return len(senders) == 0 || slices.ContainsFunc(senders, func(f natrules.SenderFate) bool {
		return f.Sender == "the node itself" && changesSource(f.Change)
	})
}

func (j *judge) withRemedies() []PathVerdict {
	for i := range j.paths {
		j.paths[i].Remedies = j.pathRemedies(j.paths[i])
	}
	return j.paths
}

func (j *judge) pathRemedies(p PathVerdict) []Remedy {
	switch p.State {
	case node.PathNAT:
		for _, v := range j.verdicts {
			if v.device.Name == p.Device && v.state == Active && v.nat.holds == yes {
				return j.remedies(v)
			}
		}
		return []Remedy{offloadOff(p.Device)}
	case node.PathOffload:
		r := []Remedy{offloadOff(p.Device)}
		if d, _ := j.now.Device(p.Device); d.Underlay != "" {
			r = append(r, remedy("look_at_nic", "{underlay}", shellWord(d.Underlay)))
		}
		return r
	case node.PathMTU:
		peer := "PEER"
		for _, q := range j.now.Path.Peers {
			if q.Device == p.Device && q.Family == p.Family && q.State() == node.PathMTU {
				peer = q.Peer.String()
			}
		}
		return []Remedy{remedy("find_mtu", "{device}", shellWord(p.Device), "{peer}", peer)}
	case node.PathUnreachable:
		return []Remedy{remedy("look_at_peers", "{device}", shellWord(p.Device))}
	default:
		return nil
	}
}

// path turns what the probe found into findings, and holds it against the model.
func (j *judge) path() {
	for _, p := range j.withRemedies() {
		f := Finding{
			Code: CodePathUnknown, Severity: Info, Device: p.Device, Family: p.Family, Variant: p.Variant,
			Summary:  "The probe through " + p.Device + " gives no verdict " + p.Reason + ".",
			Evidence: j.pathEvidence(p), Remedies: p.Remedies,
		}
		switch p.State {
		case node.PathNAT:
			j.raise(Failing)
			f.Code, f.Severity = CodePathNAT, Critical
			f.Summary = "Proven on the path through " + p.Device + ": NAT spoils the checksums of marked packets " +
				p.Reason + "."
		case node.PathOffload:
			j.raise(Failing)
			f.Code, f.Severity = CodePathOffload, Critical
			f.Summary = "Packets through " + p.Device + " whose checksum is left to offload are lost, marked or not: the NIC " +
				"below, a hypervisor or a middlebox spoils them " + p.Reason + "."
		case node.PathMTU:
			f.Code, f.Severity = CodePathMTU, Warning
			f.Summary = "The path through " + p.Device + " loses packets as long as its MTU allows " + p.Reason + "."
		case node.PathOK:
			if refuted := j.refuted(p.Device); refuted != "" {
				f.Code = CodePathRefutes
				f.Summary = refuted + " What was sent arrived " + p.Reason + ". The probe stands for " + PathStandsFor + "."
			} else {
				f.Code, f.Severity = CodePathOK, Good
				f.Summary = "The probe through " + p.Device + " was answered: " + strings.Join(p.Senders, ", ") +
					" can send what could be spoiled. It stands for " + PathStandsFor + "."
			}
		}
		j.add(f)
		if p.State == node.PathNAT {
			j.contradicted(p)
		}
	}
}

// contradicted says, loudly, that the model took a device for clear that loses packets.
func (j *judge) contradicted(p PathVerdict) {
	for _, v := range j.verdicts {
		if v.device.Name != p.Device || (v.model != Clear && !v.nat.against) || v.checksum.holds == no {
			continue
		}
		var why []string // the conditions that the model takes to be absent
		for _, c := range v.conditions() {
			if c.holds == no {
				why = append(why, c.why)
			}
		}
		if v.nat.against {
			why = []string{keepsClear(v.nat.rules.Why)}
		}
		j.add(j.finding(v, CodePathContradicted, Critical, "The model is WRONG about "+p.Device+": by rules, features and "+
			"kernel it is clear ("+strings.Join(why, "; ")+"), and the probe proves that packets are lost. Believe the probe, "+
			"and please report the output of check --probe --output=json."))
	}
}

// refuted says what an answered probe means for a device that the model takes to be exposed; empty for others.
func (j *judge) refuted(device string) string {
	i := slices.IndexFunc(j.verdicts, func(v verdict) bool { return v.device.Name == device && v.model != Clear })
	if i < 0 {
		return ""
	}
	v := j.verdicts[i]
	if v.state == Clear {
		return "Refuted by the probe: " + device + " is not exposed to " + v.variant + ". The conditions hold, and yet NAT " +
			"does no harm here."
	}
	return "The probe does not confirm that " + device + " is " + string(v.model) + " to " + v.variant +
		": it may be for senders that the probe does not stand for."
}

func (j *judge) pathEvidence(p PathVerdict) []Evidence {
	const most = 6
	var list []Evidence
	for _, q := range j.now.Path.Peers {
		if q.Device != p.Device || q.Family != p.Family {
			continue
		}
		for _, s := range q.Senders[:min(len(q.Senders), most-len(list))] {
			list = append(list, Evidence{"probe", fmt.Sprintf("%s to %s: answered %d of %d plain, %d of %d plain finished, "+
				"%d of %d marked, %d of %d marked finished", s.Source, q.Peer,
				s.Plain.Answered, s.Plain.Sent, s.PlainSoftware.Answered, s.PlainSoftware.Sent,
				s.Marked.Answered, s.Marked.Sent, s.MarkedSoftware.Answered, s.MarkedSoftware.Sent)})
		}
	}
	return list
}
