package kernelversion

import (
	"strings"
	"time"
)

// Sources that several rows share.
const (
	sourceFix = "https://git.kernel.org/linus/ea64d8d6c675 (netfilter: nat: never update the UDP checksum when it's " +
		"0; v5.7-rc5)"
	sourcePosted = "the fix was posted on 2020-04-21, and says that the problem was there from day one: " + sourceFix
	sourceEnded  = "https://www.kernel.org/pub/linux/kernel/: last release of a series that ended before the fix"
	sourceRHEL8  = "https://github.com/openshift/machine-config-operator/pull/1882 (bugzilla.redhat.com 1794714, " +
		"1847128, 1847127)"
	sourceRHEL7 = "https://github.com/flannel-io/flannel/issues/1279, " +
		"https://github.com/kubernetes/kubernetes/issues/88986"
	// RHEL 7.9 and 7.8 were built from their own sources and run: docs/KERNELS.md.
	sourceEL7Fixed = "kernel-3.10.0-1160.el7.src.rpm, net/netfilter/nf_nat_proto_udp.c, and a run of it; " + sourceRHEL7
	sourceEL7B     = "runs of 3.10.0-1127.el7 and 3.10.0-1160.el7, which have LCO (include/linux/skbuff.h: lco_csum) " +
		"although they are older than 4.6"
	sourceRebuilds = "kernel-rt of RHEL and CloudLinux 8's lve kernels carry the build number of the RHEL kernel whose " +
		"source they add patches to"
	sourceFlavors = "changelog of Ubuntu's package linux-aws-5.4: 5.4.0-1011.11 is made from linux 5.4.0-31.35, which " +
		"lacks the fix, the next, of 2020-06-26, from one that contains 5.4.0-33.37; every flavor is made anew in each " +
		"stable update cycle, of three weeks; " + sourceUbuntu
	sourceUbuntu = "changelog of Ubuntu's package linux, versions 4.15.0-107.108 and 5.4.0-32.36"
	sourceLCO    = "https://docs.kernel.org/networking/checksum-offloads.html: LCO (include/linux/skbuff.h: lco_csum), " +
		"in kernels since 4.6"
)

// The first releases with the fix (A) and with VXLAN, and the span that was looked at for variant B.
func firstFixed() version { return version{5, 7, 0} }
func firstVXLAN() version { return version{3, 7, 0} } // drivers/net/vxlan.c, d342894c5d2f
func firstLCO() version   { return version{4, 6, 0} }
func lastSeen() version   { return version{6, 18, 0} }

// flavorsFixed is a day by which every flavor of Ubuntu's 5.4 and 4.15 had been made anew from a kernel with the fix:
// two cycles later.
func flavorsFixed() time.Time { return time.Date(2020, time.August, 1, 0, 0, 0, 0, time.UTC) }

// fixWritten is the day before the fix was posted to netdev: no build that is older can have it. The day's margin is
// for time zones.
func fixWritten() time.Time { return time.Date(2020, time.April, 20, 0, 0, 0, 0, time.UTC) }

// firstVXLANRelease bounds build dates from below: builds that are made reproducible carry dates like 1970 or 1980.
func firstVXLANRelease() time.Time { return time.Date(2012, time.December, 10, 0, 0, 0, 0, time.UTC) } // Linux 3.7

// series is one stable series of kernel.org.
type series struct {
	major, minor int
	early        int // last SUBLEVEL that was released before the fix was written
	unfixed      int // last SUBLEVEL known to lack it
	fixed        int // first SUBLEVEL that has it; 0: none is known
	source       string
}

// ended are the last releases of the series that ended before the fix.
const ended = "5.5.19 5.3.18 5.2.21 5.1.21 5.0.21 4.20.17 4.18.20 4.17.19 4.16.18 4.15.18 4.13.16 4.12.14 4.11.12 " +
	"4.10.17 4.8.17 4.7.10 4.6.7 4.5.7 " +
	"4.3.6 4.2.8 4.1.52 4.0.9 3.19.8 3.18.140 3.17.8 3.15.10 3.14.79 3.13.11 3.12.74 3.11.10 3.10.108 3.9.11 3.8.13 3.7.10"

// stableSeries lists the stable series that the fix went into, and those that it did not.
func stableSeries() []series {
	const changelog = "https://www.kernel.org/pub/linux/kernel/"
	all := []series{
		{5, 6, 6, 12, 13, changelog + "v5.x/ChangeLog-5.6.13"},
		{5, 4, 34, 40, 41, changelog + "v5.x/ChangeLog-5.4.41"},
		{4, 19, 117, 122, 123, changelog + "v4.x/ChangeLog-4.19.123"},
		{4, 14, 176, 180, 181, changelog + "v4.x/ChangeLog-4.14.181"},

		// Alive when the fix came out; it was not in the releases of those weeks. Later ones were not looked at.
		{4, 9, 219, 224, 0, changelog + "v4.x/ChangeLog-4.9.224"},
		{4, 4, 219, 222, 0, "4.4.222 is older than v5.7-rc5, and stable takes what is in mainline: " + sourceFix},
		{3, 16, 82, 83, 0, "3.16.83 is older than v5.7-rc5, and stable takes what is in mainline: " + sourceFix},
	}
	for last := range strings.FieldsSeq(ended) {
		n, _ := numbers(last, 3)
		all = append(all, series{n[0], n[1], n[2], n[2], 0, sourceEnded})
	}
	return all
}

// builds is a distribution that keeps one base version and counts its own builds.
type builds struct {
	name          string
	base          version
	tags          []string // tags of the flavours that share these numbers
	ubuntu        bool     // uname -v or os-release must say Ubuntu
	stream        int      // first number of the builds that this row is about; 0: any
	affectedBelow []int    // builds before this one lack the fix
	fixedFrom     []int    // builds from this one on have it; nil: none is known
	source        string
}

// distributionBuilds lists them; of several rows that match, the first counts. A .z-stream row ends where the stream's
// general updates did, in 2019 or earlier, or where the fix came in: extended updates of later years were not looked
// at.
func distributionBuilds() []builds {
	el8, el7, base8, base7 := []string{"el8"}, []string{"el7"}, version{4, 18, 0}, version{3, 10, 0}
	ubuntu := []string{"generic", "generic-lpae", "lowlatency"}
	const rhel8, rhel7 = "RHEL 8 and its rebuilds", "RHEL 7 and its rebuilds"
	return []builds{
		{rhel8 + " (8.0)", base8, el8, false, 80, []int{80, 11, 3}, nil, sourceRHEL8},
		{rhel8 + " (8.1)", base8, el8, false, 147, []int{147, 21, 1}, []int{147, 21, 1}, sourceRHEL8},
		{rhel8 + " (8.2)", base8, el8, false, 193, []int{193, 10, 1}, []int{193, 10, 1}, sourceRHEL8},
		{rhel8, base8, el8, false, 0, []int{202}, []int{202}, sourceRHEL8},

		{rhel7 + " (7.0)", base7, el7, false, 123, []int{123, 20, 2}, nil, sourceRHEL7},
		{rhel7 + " (7.1)", base7, el7, false, 229, []int{229, 20, 2}, nil, sourceRHEL7},
		{rhel7 + " (7.2)", base7, el7, false, 327, []int{327, 36, 4}, nil, sourceRHEL7},
		{rhel7 + " (7.3)", base7, el7, false, 514, []int{514, 26, 3}, nil, sourceRHEL7},
		{rhel7 + " (7.4)", base7, el7, false, 693, []int{693, 21, 2}, nil, sourceRHEL7},
		{rhel7 + " (7.5)", base7, el7, false, 862, []int{862, 14, 5}, nil, sourceRHEL7},
		{rhel7 + " (7.6)", base7, el7, false, 957, []int{957, 27, 3}, nil, sourceRHEL7},
		{rhel7 + " (7.7)", base7, el7, false, 1062, []int{1062, 18, 2}, nil, sourceRHEL7},
		{rhel7, base7, el7, false, 0, []int{1127, 13, 2}, []int{1160}, sourceEL7Fixed},

		{"Ubuntu", version{4, 15, 0}, ubuntu, true, 0, []int{107}, []int{107}, sourceUbuntu},
		{"Ubuntu", version{5, 4, 0}, ubuntu, true, 0, []int{32}, []int{32}, sourceUbuntu},
	}
}

// ubuntuFlavors are those whose releases are numbered from 1000 on: 5.4.0-1103-aws.
func ubuntuFlavors() []string {
	return []string{"aws", "azure", "gcp", "gke", "gkeop", "ibm", "kvm", "oracle", "raspi", "raspi2", "snapdragon"}
}

// follower is a distribution whose release carries the number of the kernel.org release that it is built on.
type follower struct {
	name string
	// How it is known: a part of the release's suffix, or how the suffix ends. Debian is known by uname -v.
	part, end string
	only      version // the only series it is about; zero: any
	// A vanilla kernel is that very release. Others may hold the fix earlier than their number says, so that a number
	// which was new when the fix was written proves nothing; those that stay on one number for long, nothing at all.
	vanilla, stays bool
	source         string
}

func followers() []follower {
	return []follower{
		{
			name: "Ubuntu's build of mainline", part: "-0", end: "-generic", vanilla: true,
			source: "https://wiki.ubuntu.com/Kernel/MainlineBuilds",
		},
		{
			name: "ELRepo", part: ".elrepo", vanilla: true,
			source: "https://elrepo.org: kernel-ml and kernel-lt are built from kernel.org sources",
		},
		{name: "Flatcar", end: "-flatcar", source: "https://github.com/flatcar/scripts: sys-kernel/coreos-sources takes " +
			"the kernel.org release"},
		{
			name: "CoreOS Container Linux", part: "-coreos",
			source: "https://github.com/coreos/coreos-overlay: sys-kernel/coreos-sources",
		},
		{name: "Amazon Linux", part: ".amzn", source: "https://docs.aws.amazon.com/linux/al2/ug/aml2-kernel.html"},
		{name: "Fedora", part: ".fc", source: "https://docs.fedoraproject.org: Fedora's kernel is rebased on each " +
			"stable release"},
		{name: "Talos", end: "-talos", source: "https://github.com/siderolabs/pkgs: the kernel.org release"},
		{name: "Raspberry Pi", end: "-v7+", source: "https://github.com/raspberrypi/linux: stable releases are merged"},
		{name: "Raspberry Pi", end: "-v7l+", source: "https://github.com/raspberrypi/linux: stable releases are merged"},
		{name: "Raspberry Pi", end: "-v8+", source: "https://github.com/raspberrypi/linux: stable releases are merged"},
		{
			name: "LinuxKit", end: "-linuxkit",
			source: "https://github.com/linuxkit/linuxkit: kernel/ takes the kernel.org release",
		},
		{name: "RancherOS", end: "-rancher", source: "https://github.com/rancher/os-kernel: the kernel.org release"},
		{name: "Alpine or Arch LTS", end: "-lts", source: "https://gitlab.alpinelinux.org/alpine/aports: main/linux-lts " +
			"takes the kernel.org release"},
		{name: "Alpine", end: "-virt", source: "https://gitlab.alpinelinux.org/alpine/aports: main/linux-lts takes the " +
			"kernel.org release"},
		{name: "Photon", part: ".ph", source: "https://github.com/vmware/photon: SPECS/linux takes the kernel.org release"},
		{
			name: "Proxmox VE", end: "-pve", only: version{5, 4},
			source: "https://git.proxmox.com: pve-kernel.git, debian/changelog: 5.4.41-1 is made from Ubuntu-5.4.0-32.36, " +
				"5.4.34-1 from 5.4.0-30.34",
		},
		{
			name: "WSL2", part: "-microsoft-standard",
			source: "https://github.com/microsoft/WSL2-Linux-Kernel/releases: stable releases are merged",
		},
		{name: "Arch", part: "-arch", source: "https://github.com/archlinux/linux: the kernel.org release"},
		// Container-Optimized OS ends in a plus sign, as does any build from a changed git tree.
		{
			name: "Container-Optimized OS or a changed tree", end: "+", stays: true,
			source: "https://cloud.google.com/container-optimized-os/docs/release-notes",
		},
	}
}
