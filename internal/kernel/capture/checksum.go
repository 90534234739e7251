package capture

import "encoding/binary"

// Checksums are ones' complement sums of 16-bit words in network byte order (RFC 1071).

// sum adds the words of b to s. An odd last byte counts as the high half of a word.
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold brings s down to 16 bits. It is 0 only when every word added was 0.
func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// complement is what a UDP checksum field holds when everything else sums up to s: never 0, which means "none" (RFC
// 768).
func complement(s uint64) uint16 {
	if c := ^fold(s); c != 0 {
		return c
	}
	return 0xffff
}

// subtract takes b from a in ones' complement arithmetic.
func subtract(a, b uint16) uint16 { return fold(uint64(a) + uint64(^b)) }
