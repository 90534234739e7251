package diagnosis

import (
	"fmt"
	"slices"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// senders turns the verdicts on the devices into findings.
func (j *judge) senders() {
	for pair := range slices.Chunk(j.verdicts, 2) {
		a, b := pair[0], pair[1]
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

// finding is about the device of a verdict, with the observed value behind each condition.
func (j *judge) finding(v verdict, code Code, s Severity, summary string, remedies ...Remedy) Finding {
	f := Finding{
		Code: code, Severity: s, Device: v.device.Name, Port: v.key.port, Family: v.key.family, Variant: v.variant,
		Summary: summary, Remedies: remedies,
	}
	for _, c := range v.conditions() {
		if c.evidence != (Evidence{}) {
			f.Evidence = append(f.Evidence, c.evidence)
		}
	}
	if v.device.LinkNetns == nil {
		var quotes []Evidence
		if v.nat.flows {
			quotes = v.natted.quotes
		}
		f.Evidence = append(f.Evidence, j.flowEvidence(v.key, quotes)...)
	}
	return f
}

func (j *judge) sender(v verdict) {
	switch {
	case v.state == Active:
		j.raise(Failing)
		j.add(j.finding(v, CodeNATSpoils, Critical, "NAT spoils the outer checksum of packets sent through "+v.device.Name+
			"; receivers drop them, and connections stall: "+v.reason+".", j.remedies(v)...))
	case v.state == Exposed && v.nat.unread:
		j.raise(Exposed)
		j.add(j.finding(v, CodeExposedUnread, Warning, v.device.Name+" is "+v.reason+".", j.remedies(v)...))
	case v.state == Exposed:
		j.raise(Exposed)
		code := CodeNATCouldSpoil
		if v.nat.rules.Why == natrules.WhyRestored {
			code = CodeMarkRestored
		}
		j.add(j.finding(v, code, Warning, "Packets sent through "+v.device.Name+" would have a spoiled outer checksum after "+
			"NAT: "+v.reason+".", j.remedies(v)...))
	case v.state == Unknown:
		j.undecided(v, v.variant)
	}
}

func (j *judge) undecided(v verdict, variant string) {
	j.raise(Unknown)
	f := j.finding(v, CodeExposureUnknown, Warning,
		"Whether "+v.device.Name+" is exposed could not be told: "+v.reason+".")
	f.Variant = variant
	if v.nat.rules.Other != nil { // it can be made not to matter
		v.variant = node.OffloadedChecksum
		f.Code, f.Remedies = CodeChainOrder, j.remedies(v)
	} else {
		f.Remedies = j.undecidedRemedies(v)
	}
	j.add(f)
}

// clear says what keeps a device clear, and warns where that is less than it seems.
func (j *judge) clear(a, b verdict) {
	v := b // the variant that the device's checksum setting makes possible
	if b.checksum.holds == no {
		v = a
	}
	j.add(j.finding(v, CodeClear, Good, v.device.Name+" is clear: "+v.reason+"."))
	nat := v.nat.holds == yes && (!v.nat.unread || v.nat.flows)
	switch {
	case !v.device.Up || v.checksum.holds == no:
	case nat && v.offload.holds == no && v.kernel.holds != no:
		j.add(j.finding(v, CodeOffloadAlone, Info, "Only "+txChecksum+" being off protects "+v.device.Name+": its outer "+
			"packets are NATed, and whoever recreates the device, as CNI plugins do, switches it on again.",
			j.ruleRemedies(v)...))
	case v.nat.flows && v.kernel.holds == no && v.offload.holds == yes:
		j.add(j.finding(v, CodeKernelAlone, Info, "NATed flows leave through "+v.device.Name+", and only the verdict on the "+
			"kernel says that this is harmless: "+v.kernel.why+".", remedy("selftest")))
	}
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

func (j *judge) aboutFlows(v verdict) {
	f := Finding{
		Severity: Info, Port: v.key.port, Family: v.key.family, Evidence: j.flowEvidence(v.key, v.natted.quotes),
	}
	if names := j.sharing(v); v.natted.flows > 0 && len(names) > 1 && names[0] == v.device.Name {
		f.Code = CodeSharedPort
		f.Summary = list(names) + " share " + v.key.String() + " and the address that they send from: conntrack does not " +
			"tell whose flows are NATed, so each one that meets the conditions counts as active."
		j.add(f)
	}
	f.Device = v.device.Name
	if v.nat.left {
		f.Code = CodeLeftOver
		f.Summary = fmt.Sprintf("%s of %s to %s from before its packets were no longer tracked: no packet can meet them, "+
			"and they mean nothing. The last ends within %s.", count(v.natted.flows, "NATed entry", "NATed entries"),
			v.device.Name, v.key, v.natted.remaining)
		j.add(f)
	}
	if v.nat.against {
		f.Code, f.Severity = CodeRulesContradicted, Warning
		f.Summary = "Flows of " + v.device.Name + " to " + v.key.String() + " are NATed although the rules say that they " +
			"should not be (" + keepsClear(v.nat.rules.Why) + "). Either they began before the rules were changed, which " +
			"deleting them settles, or another rule does it."
		f.Evidence = append(f.Evidence, v.nat.evidence)
		f.Remedies = []Remedy{j.remedy(v, "delete_flows"), j.remedy(v, "find_rule")}
		j.add(f)
	}
}

func (j *judge) aboutPort(v verdict) {
	p := j.ports.at(v.key)
	f := Finding{Port: v.key.port, Family: v.key.family, Evidence: j.flowEvidence(v.key, p.natted.quotes)}
	if p.tracked.SNAT == 0 && p.tracked.SeenSNAT > 0 {
		f.Code, f.Severity = CodeSeenEarlier, Info
		f.Summary = "No flow to " + v.key.String() + " is NATed now, but " + count(p.tracked.SeenSNAT, "NATed flow") +
			" came by since the exporter started."
		j.add(f)
	}
	if o, ok := p.outer(v.device.Local); ok && o.Why == natrules.WhyNotrack {
		f.Code, f.Severity = CodeNotracked, Good
		f.Summary = "VXLAN packets to " + v.key.String() + " are not tracked: NAT cannot touch them, and zero tracked " +
			"flows is what one should see."
		f.Evidence = append(f.Evidence, ruleEvidence(o))
		j.add(f)
	}
}
