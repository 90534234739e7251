package natrules

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"slices"
)

// number is an address, a port or another field of at most 128 bits.
type number struct{ high, low uint64 }

func (n number) compare(m number) int {
	return cmp.Or(cmp.Compare(n.high, m.high), cmp.Compare(n.low, m.low))
}

func (n number) next() number {
	low, carry := bits.Add64(n.low, 1, 0)
	return number{n.high + carry, low}
}

func (n number) before() number {
	low, borrow := bits.Sub64(n.low, 1, 0)
	return number{n.high - borrow, low}
}

// numberOf reads a field of at most 16 bytes in network order.
func numberOf(b []byte) number {
	var all [16]byte
	copy(all[16-min(len(b), 16):], b)
	return number{binary.BigEndian.Uint64(all[:8]), binary.BigEndian.Uint64(all[8:])}
}

// bytes are the last size bytes of n in network order.
func (n number) bytes(size int) []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n.high), n.low)
	return b[16-size:]
}

func addrNumber(a netip.Addr) number { return numberOf(a.AsSlice()) }

func (n number) addr(ipv6 bool) netip.Addr {
	a, _ := netip.AddrFromSlice(n.bytes(addrLen(ipv6)))
	return a
}

// inHostOrder is a number of 4 bytes as it stands in a register of nf_tables.
func inHostOrder(n uint32) number { return numberOf(binary.NativeEndian.AppendUint32(nil, n)) }

// span is the numbers from first to last.
type span struct{ first, last number }

func one(n number) span { return span{n, n} }

// ranges is a set of numbers: spans in their order that do not touch. nil is the empty set too.
type ranges []span

func rangesOf(spans ...span) ranges {
	s := slices.Clone(spans)
	slices.SortFunc(s, func(a, b span) int { return a.first.compare(b.first) })
	all := s[:0]
	for _, x := range s {
		if n := len(all); n > 0 && (x.first.compare(all[n-1].last) <= 0 || x.first == all[n-1].last.next()) {
			if x.last.compare(all[n-1].last) > 0 {
				all[n-1].last = x.last
			}
			continue
		}
		all = append(all, x)
	}
	return ranges(all)
}

// between are the numbers from first to last: none, if last is smaller.
func between(first, last number) ranges {
	if first.compare(last) > 0 {
		return nil
	}
	return ranges{{first, last}}
}

func portsBetween(low, high uint16) ranges {
	return between(number{0, uint64(low)}, number{0, uint64(high)})
}

// union is the set of what each of several values stands for.
func union[T any](all []T, of func(T) span) ranges {
	spans := make([]span, len(all))
	for i, v := range all {
		spans[i] = of(v)
	}
	return rangesOf(spans...)
}

func numbers(all ...uint64) ranges {
	return union(all, func(n uint64) span { return one(number{0, n}) })
}

func addrRanges(addrs []netip.Addr) ranges {
	return union(addrs, func(a netip.Addr) span { return one(addrNumber(a)) })
}

func prefixSpan(p netip.Prefix) span {
	addr := p.Masked().Addr().AsSlice()
	return maskSpan(addr, net.CIDRMask(p.Bits(), len(addr)*8))
}

// prefixRanges are those of a family.
func prefixRanges(prefixes []netip.Prefix, ipv6 bool) ranges {
	other := func(p netip.Prefix) bool { return !p.IsValid() || p.Addr().Is6() != ipv6 }
	return union(slices.DeleteFunc(slices.Clone(prefixes), other), prefixSpan)
}

// maskSpan are the numbers whose bits in mask, which is a prefix, are those of addr.
func maskSpan(addr, mask []byte) span {
	last := slices.Clone(addr)
	for i := range last {
		last[i] |= ^mask[i]
	}
	return span{numberOf(addr), numberOf(last)}
}

// isPrefix reports whether mask is ones and then zeros.
func isPrefix(mask net.IPMask) bool {
	_, bits := mask.Size() // 0 of others
	return bits == len(mask)*8
}

func (r ranges) and(s ranges) ranges {
	var both ranges
	for len(r) > 0 && len(s) > 0 {
		first, last := r[0].first, r[0].last
		if s[0].first.compare(first) > 0 {
			first = s[0].first
		}
		if s[0].last.compare(last) < 0 {
			last = s[0].last
		}
		if first.compare(last) <= 0 {
			both = append(both, span{first, last})
		}
		if r[0].last.compare(s[0].last) < 0 {
			r = r[1:]
		} else {
			s = s[1:]
		}
	}
	return both
}

// not is every number that s does not hold.
func (r ranges) not() ranges {
	var rest ranges
	var from number
	most := number{math.MaxUint64, math.MaxUint64}
	for _, s := range r {
		if from.compare(s.first) < 0 {
			rest = append(rest, span{from, s.first.before()})
		}
		if s.last == most {
			return rest
		}
		from = s.last.next()
	}
	return append(rest, span{from, most})
}

func (r ranges) without(s ranges) ranges { return r.and(s.not()) }

func (r ranges) or(s ranges) ranges { return rangesOf(slices.Concat(r, s)...) }

// within says whether a number that is one of r is one of s: no, yes, or that it depends on which.
func (r ranges) within(s ranges) truth {
	both := r.and(s)
	switch {
	case len(both) == 0:
		return no
	case slices.Equal(both, r):
		return yes
	default:
		return maybe
	}
}

// prefixes writes r as prefixes; a span that is none in itself becomes several.
func (r ranges) prefixes(ipv6 bool) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range r {
		for more := true; more; {
			more = false
			for bits := range addrLen(ipv6)*8 + 1 { // the widest that begins where s does and does not end behind it
				p := netip.PrefixFrom(s.first.addr(ipv6), bits)
				if wide := prefixSpan(p); wide.first == s.first && wide.last.compare(s.last) <= 0 {
					all, more = append(all, p), wide.last != s.last
					s.first = wide.last.next()
					break
				}
			}
		}
	}
	return all
}
