package diagnosis

import (
	"fmt"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// senders turns the verdicts on the devices into findings.
func (j *judge) senders() {
	for i := 0; i+1 < len(j.verdicts); i += 2 {
		a, b := j.verdicts[i], j.verdicts[i+1]
		if a.state == Unknown && b.state == Unknown {
			j.undecided(b, "")
		} else {
			j.sender(a)
			j.sender(b)
		}
		if a.state == Clear && b.state == Clear {
			j.clear(a, b)
		}
		j.offloadRequested(a.device)
	}
	if len(j.now.Devices) == 0 && j.succeeded(readDevices) {
		j.add(Finding{Code: CodeNoDevices, Severity: Good, Summary: "This network namespace has no VXLAN device."})
	}
	j.aboutPorts()
}

func (v verdict) finding(code Code, s Severity, summary string) Finding {
	return Finding{
		Code: code, Severity: s, Device: v.device.Name, Port: v.key.port, Family: v.key.family, Variant: v.variant,
		Summary: summary,
	}
}

// evidence of a verdict: the observed value behind each condition.
func (j *judge) evidence(v verdict) []Evidence {
	var list []Evidence
	for _, c := range v.conditions() {
		if c.evidence != (Evidence{}) {
			list = append(list, c.evidence)
		}
	}
	if v.device.LinkNetns == nil {
		list = append(list, j.flowEvidence(v.key))
		if v.nat.flows {
			list = append(list, v.natted.quotes...)
		}
	}
	return list
}

func (j *judge) sender(v verdict) {
	var f Finding
	switch v.state {
	case Active:
		j.raise(Failing)
		f = v.finding(CodeNATSpoils, Critical, "NAT spoils the outer checksum of packets sent through "+v.device.Name+
			"; receivers drop them, and connections stall: "+v.reason+".")
	case Exposed:
		j.raise(Exposed)
		if v.nat.unread {
			f = v.finding(CodeExposedUnread, Warning, v.device.Name+" is "+v.reason+".")
		} else {
			code := CodeNATCouldSpoil
			if v.nat.reason == natrules.WhyRestored {
				code = CodeMarkRestored
			}
			f = v.finding(code, Warning, "Packets sent through "+v.device.Name+" would have a spoiled outer checksum after "+
				"NAT: "+v.reason+".")
		}
	case Unknown:
		j.undecided(v, v.variant)
		return
	default:
		return
	}
	f.Evidence = j.evidence(v)
	f.Remedies = j.remedies(v)
	j.add(f)
}

func (j *judge) undecided(v verdict, variant string) {
	j.raise(Unknown)
	v.variant = variant
	f := v.finding(CodeExposureUnknown, Warning, "Whether "+v.device.Name+" is exposed could not be told: "+v.reason+".")
	f.Evidence = j.evidence(v)
	v.variant = node.OffloadedChecksum
	f.Remedies = j.undecidedRemedies(v)
	if v.nat.other != nil { // it can be made not to matter
		f.Code, f.Remedies = CodeChainOrder, j.remedies(v)
	}
	j.add(f)
}

// clear says what keeps a device clear, and warns where that is less than it seems.
func (j *judge) clear(a, b verdict) {
	v := b // the variant that the device's checksum setting makes possible
	if b.checksum.holds == no {
		v = a
	}
	f := v.finding(CodeClear, Good, v.device.Name+" is clear: "+v.reason+".")
	f.Evidence = j.evidence(v)
	j.add(f)
	if !v.device.Up || v.checksum.holds == no {
		return
	}
	nat := v.nat.holds == yes && (!v.nat.unread || v.nat.flows)
	switch {
	case nat && v.offload.holds == no && v.kernel.holds != no:
		f = v.finding(CodeOffloadAlone, Info, "Only "+txChecksum+" being off protects "+v.device.Name+
			": its outer packets are NATed, and whoever recreates the device, as CNI plugins do, switches it on again.")
		f.Remedies = j.ruleRemedies(v)
	case v.nat.flows && v.kernel.holds == no && v.offload.holds == yes:
		f = v.finding(CodeKernelAlone, Info, "NATed flows leave through "+v.device.Name+", and only the verdict on the "+
			"kernel says that this is harmless: "+v.kernel.why+".")
		f.Remedies = []Remedy{selfTestRemedy()}
	default:
		return
	}
	f.Evidence = j.evidence(v)
	j.add(f)
}

func (j *judge) offloadRequested(d node.Device) {
	f, ok := d.Features.Get(txChecksum)
	if !ok || f.Active || !f.Requested {
		return
	}
	j.add(Finding{
		Code: CodeRequestedOn, Severity: Info, Device: d.Name, Port: d.Port,
		Summary: txChecksum + " of " + d.Name + " is off, but requested on: the kernel may switch it on by itself when " +
			"what keeps it off changes. Switch the request off too.",
		Evidence: []Evidence{{txChecksum, featureText(f)}},
		Remedies: []Remedy{offloadOff(d.Name)},
	})
}

// aboutPorts adds what concerns the flows of a device, and then what concerns a port, once per port and family.
func (j *judge) aboutPorts() {
	done := map[portKey]bool{}
	for i, v := range j.verdicts {
		if v.device.LinkNetns != nil {
			continue
		}
		if i%2 == 0 || v.key != j.verdicts[i-1].key { // the variants of a device have the same flows
			j.aboutFlows(v)
		}
		if !done[v.key] {
			done[v.key] = true
			j.aboutPort(v)
		}
	}
}

func (v verdict) port() string { return fmt.Sprintf("%s port %d", v.key.family, v.key.port) }

func (j *judge) aboutFlows(v verdict) {
	if names := j.ports.sharing(v.device, v.key); v.natted.flows > 0 && len(names) > 1 && names[0] == v.device.Name {
		j.add(Finding{
			Code: CodeSharedPort, Severity: Info, Port: v.key.port, Family: v.key.family,
			Summary: list(names) + " share " + v.port() +
				" and the address that they send from: conntrack does not tell whose flows are NATed, " +
				"so each one that meets the conditions counts as active.",
			Evidence: append([]Evidence{j.flowEvidence(v.key)}, v.natted.quotes...),
		})
	}
	if v.nat.left {
		f := v.finding(CodeLeftOver, Info,
			fmt.Sprintf("%s of %s to %s from before its packets were no longer tracked: no packet can meet them, and they "+
				"mean nothing. "+
				"The last ends within %s.", count(v.natted.flows, "NATed entry", "NATed entries"), v.device.Name, v.port(),
				v.natted.remaining))
		f.Variant = ""
		f.Evidence = append([]Evidence{j.flowEvidence(v.key)}, v.natted.quotes...)
		j.add(f)
	}
	if !v.nat.against {
		return
	}
	f := v.finding(CodeRulesContradicted, Warning,
		"Flows of "+v.device.Name+" to "+v.port()+" are NATed although the rules say that they should not be ("+
			keepsClear(v.nat.reason)+"). Either they began before the rules were changed, which deleting them settles, or "+
			"another rule does it.")
	f.Variant = ""
	f.Evidence = append(append([]Evidence{j.flowEvidence(v.key)}, v.natted.quotes...), v.nat.evidence)
	f.Remedies = []Remedy{deleteFlows(v.key), findRule(v.key)}
	j.add(f)
}

func (j *judge) aboutPort(v verdict) {
	key := v.key
	flows := j.ports.flows[key]
	about := func(code Code, s Severity, summary string) Finding {
		return Finding{
			Code: code, Severity: s, Port: key.port, Family: key.family, Summary: summary,
			Evidence: append([]Evidence{j.flowEvidence(key)}, j.ports.natted[key].quotes...),
		}
	}
	port := fmt.Sprintf("%s port %d", key.family, key.port)
	if flows.SNAT == 0 && flows.SeenSNAT > 0 {
		f := about(CodeSeenEarlier, Info, fmt.Sprintf("No flow to %s is NATed now, but %s since the exporter started.", port,
			count(flows.SeenSNAT, "NATed flow")+" came by"))
		j.add(f)
	}
	if o, ok := j.outerOf(key, v.device.Local); ok && o.Why == natrules.WhyNotrack {
		f := about(CodeNotracked, Good, "VXLAN packets to "+port+" are not tracked: NAT cannot touch them, and zero "+
			"tracked flows is what one should see.")
		f.Evidence = append(f.Evidence, ruleEvidence(o))
		j.add(f)
	}
}
