package diagnosis

import (
	"strconv"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// truth is what is known of one condition of the failure.
type truth int

const (
	no truth = iota
	unsure
	yes
)

// condition is one condition of the failure for one device: whether it holds, and why it is thought so.
type condition struct {
	holds    truth
	why      string // part of a sentence
	evidence Evidence
}

// txChecksum is the feature without which no inner packet leaves unfinished: VXLAN devices have NETIF_F_HW_CSUM, which
// ethtool calls tx-checksum-ip-generic (net/ethtool/common.c). Segmentation may still say "on" after it is switched
// off, so only this one counts.
const txChecksum = "tx-checksum-ip-generic"

// checksumCondition: does the device put a checksum into the outer UDP header? Variant B needs it, variant A needs that
// it does not.
func checksumCondition(d node.Device, family, variant, release string) condition {
	var c condition
	switch {
	case d.IsExternal():
		return condition{
			unsure, "an external device takes the outer checksum from each packet, so its udpcsum flag does not tell what is " +
				"on the wire",
			Evidence{"external", "true"},
		}
	case family == node.IPv6:
		// A UDP checksum is obligatory over IPv6 but for tunnels that ask (RFC 6936); a kernel without the switch always
		// writes it.
		off := d.UDP6ZeroChecksumTx != nil && *d.UDP6ZeroChecksumTx
		c = condition{yes, "outer UDP checksum on (IPv6 underlay)", Evidence{"udp6zerocsumtx", flag(d.UDP6ZeroChecksumTx)}}
		if off {
			c.holds, c.why = no, "outer UDP checksum off (udp6zerocsumtx)"
		}
	case d.UDPChecksum == nil && !kernelversion.Before(release, 3, 16):
		return condition{
			unsure, "this kernel does not say whether the device writes an outer UDP checksum", Evidence{"udpcsum", flag(nil)},
		}
	case d.UDPChecksum == nil: // drivers/net/vxlan.c, vxlan_xmit_one: uh->check = 0; 359a0ea9875e made it a choice
		c = condition{
			no, "outer UDP checksum off (a kernel before 3.16 without the attribute never writes one; receivers as old do not " +
				"check it, all others do)",
			Evidence{"udpcsum", "never, before 3.16"},
		}
	case *d.UDPChecksum:
		c = condition{yes, "outer UDP checksum on (udpcsum)", Evidence{"udpcsum", "true"}}
	default:
		c = condition{no, "outer UDP checksum off (noudpcsum)", Evidence{"udpcsum", "false"}}
	}
	if variant == node.ZeroChecksum {
		c.holds = yes - c.holds
	}
	return c
}

func flag(b *bool) string {
	if b == nil {
		return "not sent by this kernel"
	}
	return strconv.FormatBool(*b)
}

func offloadCondition(d node.Device) condition {
	f, ok := d.Features.Get(txChecksum)
	switch {
	case !ok && d.FeaturesError != "":
		return condition{
			unsure, "the device's features could not be read: " + d.FeaturesError,
			Evidence{txChecksum, "not read"},
		}
	case !ok:
		return condition{unsure, "the device's features do not name " + txChecksum, Evidence{txChecksum, "not there"}}
	case f.Active:
		return condition{yes, txChecksum + " on", Evidence{txChecksum, featureText(f)}}
	default:
		return condition{no, txChecksum + " " + featureText(f), Evidence{txChecksum, featureText(f)}}
	}
}

// featureText is how ethtool -k shows a feature (ethtool.c, dump_one_feature).
func featureText(f ethtool.Feature) string {
	s := "off"
	if f.Active {
		s = "on"
	}
	switch {
	case f.Fixed || !f.Available:
		s += " [fixed]"
	case f.Requested != f.Active && f.Requested:
		s += " [requested on]"
	case f.Requested != f.Active:
		s += " [requested off]"
	}
	return s
}

// Verdicts on a kernel and where they come from, as in vxlan_kernel_nat_checksum_bug.
const (
	FromRelease  = "release"
	FromSelfTest = "selftest"
)

// KernelBug is the verdict on whether NAT on this kernel spoils outer checksums.
type KernelBug struct {
	Variant  string // node.ZeroChecksum or node.OffloadedChecksum
	Verdict  string // kernelversion.Affected, kernelversion.Fixed or kernelversion.Unknown
	Evidence string // FromRelease or FromSelfTest
	Reason   string
}

// KernelBugs gives the verdict of the release on both variants, and that of the self-test where a result of this very
// boot and release is stored. A self-test covers two families: affected when either is, fixed when one is and the other
// was not tested, as on a kernel without IPv6.
func KernelBugs(k node.Kernel) []KernelBug {
	a, b := kernelversion.ZeroChecksum(k.Info), kernelversion.OffloadedChecksum(k.Info)
	bugs := []KernelBug{
		{node.ZeroChecksum, a.Verdict, FromRelease, a.Reason},
		{node.OffloadedChecksum, b.Verdict, FromRelease, b.Reason},
	}
	t := selfTest(k)
	if t == nil {
		return bugs
	}
	for _, v := range variants {
		bug := KernelBug{v, kernelversion.Unknown, FromSelfTest, "it did not test this"}
		for _, r := range t.Results {
			if r.Variant == v && (r.Verdict == kernelversion.Affected || bug.Verdict == kernelversion.Unknown) {
				bug.Verdict, bug.Reason = r.Verdict, r.Reason
			}
		}
		bugs = append(bugs, bug)
	}
	return bugs
}

// selfTest is the stored result when it speaks of the running kernel.
func selfTest(k node.Kernel) *node.SelfTest {
	t := k.SelfTest
	if t == nil || (t.Release != "" && k.Release != "" && t.Release != k.Release) ||
		(t.BootID != "" && k.BootID != "" && t.BootID != k.BootID) {
		return nil
	}
	return t
}

// kernelCondition: does NAT on this kernel spoil the checksum? The self-test is proof; without it the release speaks,
// but only for variant A: no version clears variant B, which every kernel tried so far has.
func kernelCondition(k node.Kernel, family, variant string) condition {
	if t := selfTest(k); t != nil {
		for _, r := range t.Results {
			if r.Variant != variant || r.Family != family {
				continue
			}
			switch r.Verdict {
			case kernelversion.Affected:
				return condition{yes, "the self-test proved this kernel affected", Evidence{"self-test", kernelversion.Affected}}
			case kernelversion.Fixed:
				return condition{no, "the self-test proved this kernel unharmed", Evidence{"self-test", kernelversion.Fixed}}
			}
		}
	}
	if variant == node.OffloadedChecksum {
		// Where the release answers Unknown (not looked at yet), the condition is taken to hold: nothing has shown otherwise.
		return condition{
			yes, "no kernel version is known to be free of it",
			kernelEvidence(k, kernelversion.OffloadedChecksum(k.Info)),
		}
	}
	if k.Release == "" {
		return condition{unsure, "the kernel's version was not read", Evidence{"kernel", "not read"}}
	}
	v := kernelversion.ZeroChecksum(k.Info)
	c := condition{unsure, "the kernel's version does not tell whether it has the fix", kernelEvidence(k, v)}
	switch v.Verdict {
	case kernelversion.Affected:
		c.holds, c.why = yes, "the kernel "+k.Release+" is affected"
	case kernelversion.Fixed:
		c.holds, c.why = no, "the kernel "+k.Release+" has the fix for this variant"
	}
	return c
}

func kernelEvidence(k node.Kernel, v kernelversion.Verdict) Evidence {
	switch {
	case k.Release == "":
		return Evidence{"kernel", "not read"}
	case v.Reason == "":
		return Evidence{"kernel", k.Release}
	default:
		return Evidence{"kernel", k.Release + " (" + v.Reason + ")"}
	}
}
