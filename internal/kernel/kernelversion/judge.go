package kernelversion

import (
	"fmt"
	"slices"
	"strings"
)

// ZeroChecksum judges variant A: whether NAT on this kernel writes a checksum into an outer UDP header that has none.
// Fixed means fixed for this variant alone. The answer is Unknown wherever the table has no row: a distribution's
// kernel is never judged by kernel.org's numbers unless it is known to carry them.
func ZeroChecksum(info Info) Verdict {
	k, ok := parse(info)
	if v, decided := beforeTable(k, ok); decided {
		return v
	}
	if k.base == firstFixed() && strings.HasPrefix(k.suffix, "-rc") {
		return Verdict{Unknown, "the fix came in during the release candidates of 5.7", sourceFix}
	}
	if !k.base.less(firstFixed()) {
		return Verdict{Fixed, k.base.String() + " is 5.7 or later, which has the fix", sourceFix}
	}
	v := byBuild(k)
	// What the names leave open: a kernel that was built before the fix was written cannot have it.
	built, ok := k.built()
	if v.Verdict == Unknown && ok && !built.Before(firstVXLANRelease()) && built.Before(fixWritten()) {
		return Verdict{Affected, "built on " + built.Format("2006-01-02") + ", before the fix was written", sourcePosted}
	}
	return v
}

// OffloadedChecksum judges variant B: whether NAT on this kernel spoils an outer UDP checksum that offload still has to
// finish. It never answers Fixed: no release is known to have a fix.
func OffloadedChecksum(info Info) Verdict {
	k, ok := parse(info)
	if v, decided := beforeTable(k, ok); decided {
		return v
	}
	switch {
	case k.base == version{3, 10, 0} && k.hasTag("el7") && compare(k.build, []int{1127}) >= 0:
		return Verdict{Affected, "RHEL 7's kernels from 7.8 on are affected; no build is known to have a fix", sourceEL7B}
	case k.base.less(firstLCO()):
		const reason = "kernels before 4.6 compute the outer checksum in another way and were not looked at"
		return Verdict{Unknown, reason, sourceLCO}
	case lastSeen().less(k.base.series()):
		return Verdict{Unknown, "newer than 6.18, the last series that was looked at; none up to it has a fix", ""}
	}
	return Verdict{Affected, "no release is known to have a fix: every one looked at, up to 6.18, is affected", sourceLCO}
}

// beforeTable answers for the releases that no row of any table can be about.
func beforeTable(k kernel, parsed bool) (v Verdict, decided bool) {
	switch {
	case !parsed:
		v = Verdict{Unknown, fmt.Sprintf("release %q is not a kernel version", shorten(k.Release)), ""}
	// gVisor's uname has always returned these strings.
	case strings.Contains(k.Release, "gvisor"),
		k.Release == "4.4.0" && k.Version == "#1 SMP Sun Jan 10 15:06:54 PST 2016":
		const source = "https://gvisor.dev: pkg/sentry/kernel/version.go"
		v = Verdict{Unknown, "gVisor reports a made-up kernel; run this on the host", source}
	case k.base.less(firstVXLAN()):
		const source = "https://git.kernel.org/linus/d342894c5d2f"
		v = Verdict{Unknown, "kernels before 3.7 have no VXLAN, unless the distribution added it", source}
	}
	return v, v != Verdict{}
}

func byBuild(k kernel) Verdict {
	for _, d := range table().Builds {
		if s, ok := d.stream(k); ok {
			return d.judge(s, k)
		}
	}
	if base, ok := k.debianVersion(); ok {
		k.base = base
		const source = "changelog of Debian's package linux: stable releases are merged"
		return byStable(k, follower{Name: "Debian", Source: source})
	}
	if k.suffix == "" {
		return byStable(k, follower{Name: "kernel.org", Vanilla: true})
	}
	if k.isUbuntuFlavor() {
		return byCycle(k)
	}
	for _, f := range table().Followers {
		if f.covers(k) {
			return byStable(k, f)
		}
	}
	return Verdict{Unknown, fmt.Sprintf("the table has no row for kernels called %q", shorten(k.Release)), ""}
}

func (k kernel) isUbuntuFlavor() bool {
	return (k.base == version{5, 4, 0} || k.base == version{4, 15, 0}) && len(k.build) == 1 && k.build[0] >= 1000 &&
		strings.Contains(k.Version, "-Ubuntu") && slices.ContainsFunc(table().UbuntuFlavors, k.hasTag)
}

// byCycle judges a flavor of Ubuntu's, which counts its own builds, by when it was built.
func byCycle(k kernel) Verdict {
	const fix = "the fix of 4.15.0-107 and 5.4.0-32"
	if built, ok := k.built(); ok && !built.Before(flavorsFixed()) {
		return Verdict{Fixed, "Ubuntu's flavors built since August 2020 have " + fix, sourceFlavors}
	}
	return Verdict{Unknown, "it is not known which build of this flavor of Ubuntu's got " + fix, sourceFlavors}
}

func (f follower) covers(k kernel) bool {
	return (f.Only == version{} || f.Only == k.base.series()) &&
		strings.Contains(k.suffix, f.Part) && strings.HasSuffix(k.suffix, f.End) &&
		// Ubuntu's builds of mainline repeat the version in six digits: 5.4.41-050441-generic.
		(f.Part != "-0" || strings.HasPrefix(k.suffix, fmt.Sprintf("-%02d%02d%02d-", k.base[0], k.base[1], k.base[2])))
}

// stream finds the one that k is a build of.
func (d builds) stream(k kernel) (stream, bool) {
	if k.base != d.Base || len(k.build) == 0 || !slices.ContainsFunc(d.Tags, k.hasTag) {
		return stream{}, false
	}
	// Rebuilds of Ubuntu's kernel count in the thousands (5.4.0-7634-generic is Pop!_OS).
	if d.Ubuntu && (k.build[0] >= 1000 || !strings.Contains(k.Version, "-Ubuntu") && k.OS["ID"] != "ubuntu") {
		return stream{}, false
	}
	for _, s := range d.Streams {
		if s.First == 0 || s.First == k.build[0] {
			return s, true
		}
	}
	return stream{}, false
}

func (d builds) judge(s stream, k kernel) Verdict {
	name, build, source := d.Name, dotted(k.build), d.Source+k.source
	if s.Minor != "" {
		name += " (" + s.Minor + ")"
	}
	switch {
	case compare(k.build, s.AffectedBelow) < 0:
		return Verdict{Affected, fmt.Sprintf("%s: build %s lacks the fix", name, build), source}
	case s.FixedFrom != nil && compare(k.build, s.FixedFrom) >= 0:
		reason := fmt.Sprintf("%s: build %s has the fix, which came with %s", name, build, dotted(s.FixedFrom))
		return Verdict{Fixed, reason, source}
	}
	return Verdict{Unknown, fmt.Sprintf("%s: it is not known whether build %s has the fix", name, build), source}
}

// byStable judges by kernel.org's number, as far as who built the kernel allows.
func byStable(k kernel, by follower) Verdict {
	for _, s := range table().Stable {
		if s.Series != k.base.series() {
			continue
		}
		source := s.Source
		if by.Source != "" {
			source += "; " + by.Source
		}
		name, sub := fmt.Sprint(by.Name, " ", k.base), k.base[2]
		switch {
		case s.Fixed != 0 && sub >= s.Fixed:
			return Verdict{Fixed, fmt.Sprintf("%s has the fix of %d.%d.%d", name, k.base[0], k.base[1], s.Fixed), source}
		case strings.HasPrefix(k.suffix, "-rc"):
			return Verdict{Unknown, "release candidates were not looked at", source}
		case by.Vanilla && sub <= s.Unfixed, !by.Stays && sub <= s.Early:
			return Verdict{Affected, name + " is older than the fix", source}
		}
		return Verdict{Unknown, name + " may or may not have the fix", source}
	}
	return Verdict{Unknown, fmt.Sprintf("the table has no stable series for %s", k.base), ""}
}

func dotted(n []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", "."), "[]") }

// shorten bounds what is quoted from a string that may be anything.
func shorten(s string) string {
	if len(s) <= maxRelease {
		return s
	}
	return strings.ToValidUTF8(s[:maxRelease], "") + "…"
}
