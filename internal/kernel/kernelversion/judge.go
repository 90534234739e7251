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
	if v.Verdict == Unknown {
		if dated, ok := byDate(k); ok {
			return dated
		}
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
	series := version{k.base[0], k.base[1]}
	switch {
	case k.base == version{3, 10, 0} && k.hasTag("el7") && compare(k.build, []int{1127}) >= 0:
		return Verdict{Affected, "RHEL 7's kernels from 7.8 on are affected; no build is known to have a fix", sourceEL7B}
	case k.base.less(firstLCO()):
		return Verdict{
			Unknown, "kernels before 4.6 compute the outer checksum in another way and were not looked at",
			sourceLCO,
		}
	case lastSeen().less(series):
		return Verdict{Unknown, "newer than 6.18, the last series that was looked at; none up to it has a fix", ""}
	default:
		return Verdict{Affected, "no release is known to have a fix: every one looked at, up to 6.18, is affected", sourceLCO}
	}
}

// beforeTable answers for the releases that no row of any table can be about.
func beforeTable(k kernel, parsed bool) (Verdict, bool) {
	switch {
	case !parsed:
		return Verdict{Unknown, fmt.Sprintf("release %q is not a kernel version", shorten(k.Release)), ""}, true
	case isGVisor(k):
		return Verdict{
			Unknown, "gVisor reports a made-up kernel; run this on the host",
			"https://gvisor.dev: pkg/sentry/kernel/version.go",
		}, true
	case k.base.less(firstVXLAN()):
		return Verdict{
			Unknown, "kernels before 3.7 have no VXLAN, unless the distribution added it",
			"https://git.kernel.org/linus/d342894c5d2f",
		}, true
	default:
		return Verdict{}, false
	}
}

// isGVisor knows the sandbox by the strings that its uname has always returned.
func isGVisor(k kernel) bool {
	return strings.Contains(k.Release, "gvisor") || k.Release == "4.4.0" &&
		k.Version == "#1 SMP Sun Jan 10 15:06:54 PST 2016"
}

func byBuild(k kernel) Verdict {
	for _, row := range distributionBuilds() {
		if row.covers(k) {
			return row.judge(k)
		}
	}
	if base, ok := k.debianVersion(); ok {
		k.base = base
		return byStable(k,
			follower{name: "Debian", source: "changelog of Debian's package linux: stable releases are merged"})
	}
	if k.suffix == "" {
		return byStable(k, follower{name: "kernel.org", vanilla: true})
	}
	if k.isUbuntuFlavor() {
		return byCycle(k)
	}
	for _, row := range followers() {
		if row.only != (version{}) && row.only != (version{k.base[0], k.base[1]}) {
			continue
		}
		if strings.Contains(k.suffix, row.part) && strings.HasSuffix(k.suffix, row.end) &&
			(row.part != "-0" || isMainlineBuild(k)) {
			return byStable(k, row)
		}
	}
	return Verdict{Unknown, fmt.Sprintf("the table has no row for kernels called %q", shorten(k.Release)), ""}
}

func (k kernel) isUbuntuFlavor() bool {
	return (k.base == version{5, 4, 0} || k.base == version{4, 15, 0}) && len(k.build) == 1 && k.build[0] >= 1000 &&
		strings.Contains(k.Version, "-Ubuntu") && slices.ContainsFunc(ubuntuFlavors(), k.hasTag)
}

// byCycle judges a flavor of Ubuntu's, which counts its own builds, by when it was built.
func byCycle(k kernel) Verdict {
	if built, ok := k.built(); ok && !built.Before(flavorsFixed()) {
		return Verdict{
			Fixed, "Ubuntu's flavors built since August 2020 have the fix of 4.15.0-107 and 5.4.0-32",
			sourceFlavors,
		}
	}
	return Verdict{Unknown, "it is not known which build of this flavor of Ubuntu's got the fix of 4.15.0-107 and " +
		"5.4.0-32", sourceFlavors}
}

// isMainlineBuild knows Ubuntu's builds of mainline by the six digits that repeat the version: 5.4.41-050441-generic.
func isMainlineBuild(k kernel) bool {
	return strings.HasPrefix(k.suffix, fmt.Sprintf("-%02d%02d%02d-", k.base[0], k.base[1], k.base[2]))
}

func (row builds) covers(k kernel) bool {
	if k.base != row.base || len(k.build) == 0 || row.stream != 0 && row.stream != k.build[0] {
		return false
	}
	// Rebuilds of Ubuntu's kernel count in the thousands (5.4.0-7634-generic is Pop!_OS).
	if row.ubuntu && (k.build[0] >= 1000 || !strings.Contains(k.Version, "-Ubuntu") && k.OS["ID"] != "ubuntu") {
		return false
	}
	return slices.ContainsFunc(row.tags, k.hasTag)
}

func (row builds) judge(k kernel) Verdict {
	build := dotted(k.build)
	switch {
	case compare(k.build, row.affectedBelow) < 0:
		return Verdict{Affected, fmt.Sprintf("%s: build %s lacks the fix", row.name, build), row.source + k.source}
	case row.fixedFrom != nil && compare(k.build, row.fixedFrom) >= 0:
		return Verdict{Fixed, fmt.Sprintf("%s: build %s has the fix, which came with %s", row.name, build,
			dotted(row.fixedFrom)), row.source + k.source}
	default:
		return Verdict{
			Unknown, fmt.Sprintf("%s: it is not known whether build %s has the fix", row.name, build),
			row.source + k.source,
		}
	}
}

// byStable judges by kernel.org's number, as far as who built the kernel allows.
func byStable(k kernel, by follower) Verdict {
	source := func(s series) string {
		if by.source == "" {
			return s.source
		}
		return s.source + "; " + by.source
	}
	for _, s := range stableSeries() {
		if s.major != k.base[0] || s.minor != k.base[1] {
			continue
		}
		sub := k.base[2]
		switch {
		case s.fixed != 0 && sub >= s.fixed:
			return Verdict{
				Fixed, fmt.Sprintf("%s %s has the fix of %d.%d.%d", by.name, k.base, s.major, s.minor, s.fixed),
				source(s),
			}
		case strings.HasPrefix(k.suffix, "-rc"):
			return Verdict{Unknown, "release candidates were not looked at", source(s)}
		case by.vanilla && sub <= s.unfixed, !by.stays && sub <= s.early:
			return Verdict{Affected, fmt.Sprintf("%s %s is older than the fix", by.name, k.base), source(s)}
		default:
			return Verdict{Unknown, fmt.Sprintf("%s %s may or may not have the fix", by.name, k.base), source(s)}
		}
	}
	return Verdict{Unknown, fmt.Sprintf("the table has no stable series for %s", k.base), ""}
}

// byDate settles what the names leave open: a kernel that was built before the fix was written cannot have it.
func byDate(k kernel) (Verdict, bool) {
	built, ok := k.built()
	if !ok || built.Before(firstVXLANRelease()) || !built.Before(fixWritten()) {
		return Verdict{}, false
	}
	return Verdict{Affected, "built on " + built.Format("2006-01-02") + ", before the fix was written", sourcePosted}, true
}

func dotted(n []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", "."), "[]") }

// shorten bounds what is quoted from a string that may be anything.
func shorten(s string) string {
	if len(s) <= maxRelease {
		return s
	}
	return strings.ToValidUTF8(s[:maxRelease], "") + "…"
}
