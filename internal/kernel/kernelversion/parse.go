package kernelversion

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is VERSION.PATCHLEVEL.SUBLEVEL of the kernel's Makefile.
type version [3]int

func (v version) less(w version) bool { return slices.Compare(v[:], w[:]) < 0 }
func (v version) series() version     { return version{v[0], v[1]} }
func (v version) String() string      { return dotted(v[:]) }

// kernel is a release string taken apart: 4.18.0-193.10.1.el8_2.x86_64 is base 4.18.0, build 193.10.1, tag
// el8_2.x86_64.
type kernel struct {
	Info
	base   version
	suffix string // all that follows the base
	build  []int  // the numbers after the first dash
	tag    string // what follows them, without the number of a patch set
	source string // where it is known that the build number is the distribution's all the same; empty without a patch set
}

// maxRelease is the longest release a kernel can have: __NEW_UTS_LEN (include/uapi/linux/utsname.h).
const maxRelease = 64

// parse takes a release apart. It fails on one that does not begin with two or three numbers.
func parse(info Info) (kernel, bool) {
	k := kernel{Info: info}
	if len(info.Release) > maxRelease {
		return k, false
	}
	base, rest := numbers(info.Release, 3)
	if len(base) < 2 {
		return k, false
	}
	copy(k.base[:], base)
	if rest != "" && !strings.ContainsRune("-+.~_", rune(rest[0])) {
		return k, false
	}
	k.suffix = rest
	if after, ok := strings.CutPrefix(rest, "-"); ok {
		k.build, k.tag = numbers(after, 4)
		k.tag = strings.TrimLeft(k.tag, ".-")
		if tag := withoutPatches(k.tag); tag != k.tag {
			k.tag, k.source = tag, "; "+sourceRebuilds
		}
	}
	return k, true
}

// numbers reads up to limit numbers that are joined by single dots from the front of s, and returns the rest of s. A
// number that is followed by a letter belongs to the rest ("7a").
func numbers(s string, limit int) (found []int, rest string) {
	rest = s
	for next := s; len(found) < limit; {
		after := strings.TrimLeft(next, "0123456789")
		digits := next[:len(next)-len(after)]
		n, err := strconv.Atoi(digits)
		// Nine digits are more than any kernel's number has.
		if err != nil || len(digits) > 9 || after != "" && isLetter(after[0]) {
			break
		}
		found, rest = append(found, n), after
		var more bool
		if next, more = strings.CutPrefix(after, "."); !more {
			break
		}
	}
	return found, rest
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// compare orders two lists of numbers; a list that ends first counts as filled with zeros.
func compare(a, b []int) int { return slices.Compare(withoutZeros(a), withoutZeros(b)) }

func withoutZeros(n []int) []int {
	for len(n) > 0 && n[len(n)-1] == 0 {
		n = n[:len(n)-1]
	}
	return n
}

// hasTag reports whether the release's tag is t or begins with it: el8 covers el8, el8_2.x86_64 and el8.x86_64, not
// el8uek.
func (k kernel) hasTag(t string) bool {
	after, ok := strings.CutPrefix(k.tag, t)
	return ok && (after == "" || strings.ContainsRune("._+", rune(after[0])))
}

// debianVersion finds the upstream part of a Debian package version in uname -v: "#1 SMP Debian 4.19.118-2+deb10u1
// (2020-06-07)".
func (k kernel) debianVersion() (v version, ok bool) {
	words := strings.Fields(k.Version)
	i := slices.Index(words, "Debian")
	if i < 0 || i+1 == len(words) {
		return v, false
	}
	n, rest := numbers(words[i+1], 3)
	copy(v[:], n)
	return v, len(n) >= 2 && strings.HasPrefix(rest, "-")
}

// built finds the build's date in uname -v: "Thu Jun 4 11:29:14 UTC 2020", Debian's "(2020-06-07)", or Proxmox's
// "(Sat, 15 Feb 2020 15:34:24 +0100)".
func (k kernel) built() (time.Time, bool) {
	words := strings.Fields(k.Version)
	for i, word := range words {
		if t, err := time.Parse(time.DateOnly, strings.Trim(word, "()")); err == nil {
			return t, true
		}
		if len(word) != len("Jan") || i+1 == len(words) {
			continue
		}
		if i > 0 {
			if t, err := time.Parse("2 Jan 2006", words[i-1]+" "+word+" "+words[i+1]); err == nil {
				return t, true
			}
		}
		// The time of day and the zone stand between the day and the year; neither matters here, and the zone may be missing.
		for _, year := range words[min(i+3, len(words)):min(i+5, len(words))] {
			if t, err := time.Parse("Jan 2 2006", word+" "+words[i+1]+" "+year); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// Before reports whether release (uname -r) is of a series older than major.minor; false when it is not a kernel
// version.
func Before(release string, major, minor int) bool {
	k, ok := parse(Info{Release: release})
	return ok && k.base.less(version{major, minor})
}

// withoutPatches cuts off the number of a patch set that stands before the distribution's tag, where the build number
// is still RHEL's: rt7.72.el8.x86_64 and lve.1.el8.x86_64 become el8.x86_64. CloudLinux 7 ("lve1.5.63.el7") counts
// builds of its own.
func withoutPatches(tag string) string {
	set, _, _ := strings.Cut(tag, ".")
	if n, isRT := strings.CutPrefix(set, "rt"); set != "lve" && (!isRT || n == "" || strings.Trim(n, "0123456789") != "") {
		return tag
	}
	if i := strings.Index(tag, ".el"); i >= 0 {
		return tag[i+1:]
	}
	return tag
}

// HasFullyRandom reports whether NAT of release (uname -r) knows NF_NAT_RANGE_PROTO_RANDOM_FULLY: since 3.14
// (34ce324019e7), and in what distributions call 3.10.0-BUILD, as RHEL 7's. Others take the flag and ignore it.
func HasFullyRandom(release string) bool {
	k, ok := parse(Info{Release: release})
	return !ok || !k.base.less(version{3, 14}) || k.base == version{3, 10, 0} && len(k.build) > 0
}
