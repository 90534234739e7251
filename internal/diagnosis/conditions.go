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
	// A UDP checksum is obligatory over IPv6 but for tunnels that ask (RFC 6936); a kernel without the switch always
	// writes it.
	zero6 := Evidence{"udp6zerocsumtx", flag(d.UDP6ZeroChecksumTx)}
	udpcsum := Evidence{"udpcsum", flag(d.UDPChecksum)}
	var c condition
	switch {
	case d.IsExternal():
		return condition{unsure, "an external device takes the outer checksum from each packet, so its udpcsum flag does " +
			"not tell what is on the wire", Evidence{"external", "true"}}
	case family == node.IPv6 && d.UDP6ZeroChecksumTx != nil && *d.UDP6ZeroChecksumTx:
		c = condition{no, "outer UDP checksum off (udp6zerocsumtx)", zero6}
	case family == node.IPv6:
		c = condition{yes, "outer UDP checksum on (IPv6 underlay)", zero6}
	case d.UDPChecksum == nil && !kernelversion.Before(release, 3, 16):
		return condition{unsure, "this kernel does not say whether the device writes an outer UDP checksum", udpcsum}
	case d.UDPChecksum == nil: // drivers/net/vxlan.c, vxlan_xmit_one: uh->check = 0; 359a0ea9875e made it a choice
		c = condition{no, "outer UDP checksum off (a kernel before 3.16 without the attribute never writes one; receivers " +
			"as old do not check it, all others do)", Evidence{"udpcsum", "never, before 3.16"}}
	case *d.UDPChecksum:
		c = condition{yes, "outer UDP checksum on (udpcsum)", udpcsum}
	default:
		c = condition{no, "outer UDP checksum off (noudpcsum)", udpcsum}
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
	switch f, ok := d.Features.Get(txChecksum); {
	case !ok && d.FeaturesError != "":
		why := "the device's features could not be read: " + d.FeaturesError
		return condition{unsure, why, Evidence{txChecksum, "not read"}}
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
	onOff := map[bool]string{true: "on", false: "off"}
	switch {
	case f.Fixed || !f.Available:
		return onOff[f.Active] + " [fixed]"
	case f.Requested != f.Active:
		return onOff[f.Active] + " [requested " + onOff[f.Requested] + "]"
	default:
		return onOff[f.Active]
	}
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
	var bugs []KernelBug
	for _, v := range variants {
		r := byRelease(k, v)
		bugs = append(bugs, KernelBug{v, r.Verdict, FromRelease, r.Reason})
	}
	if !tested(k) {
		return bugs
	}
	for _, v := range variants {
		bug := KernelBug{v, kernelversion.Unknown, FromSelfTest, "it did not test this"}
		for _, r := range k.SelfTest.Results {
			if r.Variant == v && (r.Verdict == kernelversion.Affected || bug.Verdict == kernelversion.Unknown) {
				bug.Verdict, bug.Reason = r.Verdict, r.Reason
			}
		}
		bugs = append(bugs, bug)
	}
	return bugs
}

func byRelease(k node.Kernel, variant string) kernelversion.Verdict {
	if variant == node.OffloadedChecksum {
		return kernelversion.OffloadedChecksum(k.Info)
	}
	return kernelversion.ZeroChecksum(k.Info)
}

// tested reports whether the stored result of the self-test speaks of the running kernel.
func tested(k node.Kernel) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	return k.SelfTest != nil && !differ(k.SelfTest.Release, k.Release) && !differ(k.SelfTest.BootID, k.BootID)
}

// kernelCondition: does NAT on this kernel spoil the checksum? The self-test is proof; without it the release speaks,
// but only for variant A: no version clears variant B, which every kernel tried so far has.
func kernelCondition(k node.Kernel, v kernelversion.Verdict, family, variant string) condition {
	if tested(k) {
		for _, r := range k.SelfTest.Results {
			switch {
			case r.Variant != variant || r.Family != family:
			case r.Verdict == kernelversion.Affected:
				return condition{yes, "the self-test proved this kernel affected", Evidence{"self-test", r.Verdict}}
			case r.Verdict == kernelversion.Fixed:
				return condition{no, "the self-test proved this kernel unharmed", Evidence{"self-test", r.Verdict}}
			}
		}
	}
	e := Evidence{"kernel", k.Release}
	if v.Reason != "" {
		e.Value += " (" + v.Reason + ")"
	}
	if k.Release == "" {
		e.Value = "not read"
	}
	switch {
	case variant == node.OffloadedChecksum:
		// Where the release answers Unknown (not looked at yet), the condition is taken to hold: nothing has shown otherwise.
		return condition{yes, "no kernel version is known to be free of it", e}
	case k.Release == "":
		return condition{unsure, "the kernel's version was not read", e}
	case v.Verdict == kernelversion.Affected:
		return condition{yes, "the kernel " + k.Release + " is affected", e}
	case v.Verdict == kernelversion.Fixed:
		return condition{no, "the kernel " + k.Release + " has the fix for this variant", e}
	default:
		return condition{unsure, "the kernel's version does not tell whether it has the fix", e}
	}
}
