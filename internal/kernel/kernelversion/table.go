package kernelversion

import (
	_ "embed"
	"encoding/json"
	"sync"
	"time"
)

//go:embed table.json
var tableJSON []byte

// tables is table.json: what is known of kernel.org's and the distributions' kernels.
type tables struct {
	Stable []series
	Ended  struct { // series that ended before the fix
		Last   []version
		Source string
	}
	Builds        []builds   // of several rows that match, the first counts
	Followers     []follower // Debian is known by uname -v instead
	UbuntuFlavors []string   // tags of those whose builds are numbered from 1000 on: 5.4.0-1103-aws
}

var table = sync.OnceValue(func() (t tables) {
	if err := json.Unmarshal(tableJSON, &t); err != nil {
		panic("kernelversion: table.json: " + err.Error())
	}
	for _, last := range t.Ended.Last {
		t.Stable = append(t.Stable, series{version{last[0], last[1]}, last[2], last[2], 0, t.Ended.Source})
	}
	return t
})

// series is one stable series of kernel.org.
type series struct {
	Series  version // without SUBLEVEL
	Early   int     // last SUBLEVEL that was released before the fix was written
	Unfixed int     // last SUBLEVEL known to lack it
	Fixed   int     // first SUBLEVEL that has it; 0: none is known, since later ones were not looked at
	Source  string
}

// builds is a distribution that keeps one base version and counts its own builds. RHEL 7.9 and 7.8 were built from
// their own sources and run: docs/KERNELS.md.
type builds struct {
	Name    string
	Base    version
	Tags    []string // tags of the flavors that share these numbers
	Ubuntu  bool     // uname -v or os-release must say Ubuntu
	Streams []stream // the first that a kernel is of counts
	Source  string
}

// stream is the builds of a minor release. It ends where its general updates did, in 2019 or earlier, or where the fix
// came in: extended updates of later years were not looked at.
type stream struct {
	Minor         string // empty: all that the others leave
	First         int    // first number of its builds; 0: any
	AffectedBelow []int  // builds before this one lack the fix
	FixedFrom     []int  // builds from this one on have it; nil: none is known
}

// follower is a distribution whose release carries the number of the kernel.org release that it is built on.
type follower struct {
	Name      string
	Part, End string  // how it is known: a part of the release's suffix, and how the suffix ends
	Only      version // the only series it is about; zero: any
	// A vanilla kernel is that very release. Others may hold the fix earlier than their number says, so that a number
	// which was new when the fix was written proves nothing; those that stay on one number for long, nothing at all: as
	// Container-Optimized OS, which ends in a plus sign, as does any build from a changed git tree.
	Vanilla, Stays bool
	Source         string
}

// Sources of what is no row of the table.
const (
	sourceFix = "https://git.kernel.org/linus/ea64d8d6c675 (netfilter: nat: never update the UDP checksum when it's " +
		"0; v5.7-rc5)"
	sourcePosted = "the fix was posted on 2020-04-21, and says that the problem was there from day one: " + sourceFix
	sourceEL7B   = "runs of 3.10.0-1127.el7 and 3.10.0-1160.el7, which have LCO (include/linux/skbuff.h: lco_csum) " +
		"although they are older than 4.6"
	sourceRebuilds = "kernel-rt of RHEL and CloudLinux 8's lve kernels carry the build number of the RHEL kernel whose " +
		"source they add patches to"
	sourceFlavors = "changelog of Ubuntu's package linux-aws-5.4: 5.4.0-1011.11 is made from linux 5.4.0-31.35, which " +
		"lacks the fix, the next, of 2020-06-26, from one that contains 5.4.0-33.37; every flavor is made anew in each " +
		"stable update cycle, of three weeks; changelog of Ubuntu's package linux, versions 4.15.0-107.108 and 5.4.0-32.36"
	sourceLCO = "https://docs.kernel.org/networking/checksum-offloads.html: LCO (include/linux/skbuff.h: lco_csum), " +
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
