package capture

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// maxPorts bounds the program: with two instructions to a port it stays far below the kernel's 4096 (BPF_MAXINSNS).
	maxPorts = 1024
	// maxPlainPorts is up to which number of ports the program has the short way: it names each port twice more.
	maxPlainPorts = 64
)

// headersLength is how much of a packet is kept that is too long to be judged by its whole content: all headers up to
// the inner TCP header, with two VLAN tags and options.
const headersLength = 256

// everything is a filter's answer for "the whole packet": no packet is longer.
const everything = 1 << 18

// Filter describes the packets that the kernel hands over: VXLAN over UDP with a checksum field other than 0.
type Filter struct {
	Ports     []uint16 // VXLAN destination ports; none: no packet passes
	Link      Link
	MaxLength int // longest packet that is handed over whole; of longer ones only the headers
	// Ratio is the part of these packets that is handed over, picked at random; 1 or more: all.
	Ratio float64
	// NoRandom picks by fields of the packet instead: kernels before 3.15 have no SKF_AD_RANDOM and refuse such a program.
	NoRandom bool
}

// EffectiveRatio is Ratio as the program really applies it: rounded to what its comparison can express, never 0.
func (f Filter) EffectiveRatio() float64 {
	if f.Ratio >= 1 {
		return 1
	}
	return float64(f.threshold()) / f.scale()
}

func (f Filter) scale() float64 {
	if f.NoRandom {
		return 1 << 16
	}
	return 1 << 32
}

func (f Filter) threshold() uint32 { return uint32(max(f.Ratio*f.scale(), 1)) }

// Program is the classic BPF program of f. What it loads beyond the end of a packet rejects that packet
// (Documentation/networking/filter.rst).
//
// First fragments pass and are judged unjudgeable; later ones bear no ports. Tags in the frame are skipped; the one
// that the kernel has taken out of the frame needs nothing.
func (f Filter) Program() ([]bpf.RawInstruction, error) {
	ins, err := f.instructions()
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(ins)
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	return raw, nil
}

func (f Filter) instructions() ([]bpf.Instruction, error) {
	ports := slices.Clone(f.Ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	if len(ports) > maxPorts {
		return nil, fmt.Errorf("packet filter: %d VXLAN ports, more than %d", len(ports), maxPorts)
	}
	var p program
	switch f.Link {
	case Ethernet:
		if len(ports) <= maxPlainPorts {
			p.plain(ports)
		}
		p.ethernet()
	case RawIP:
		p.emit(bpf.LoadConstant{Dst: bpf.RegX}, bpf.LoadAbsolute{Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
		p.gotoIf(0x40, "ipv4")
		p.gotoIf(0x60, "ipv6")
		p.reject()
	default:
		return nil, fmt.Errorf("packet filter: link type %d: %w", f.Link, errors.ErrUnsupported)
	}
	p.ipv4()
	p.ipv6()
	p.label("udp")
	p.udp(ports)
	p.label("wanted")
	// A bridge port or promiscuous NIC also sees what is meant for others.
	p.emit(bpf.LoadExtension{Num: bpf.ExtType})
	p.refuse(unix.PACKET_OTHERHOST)
	if f.Ratio < 1 {
		p.sample(f)
	}
	p.emit(
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(max(f.MaxLength, 0)), SkipTrue: 1},
		bpf.RetConstant{Val: everything},
		bpf.RetConstant{Val: headersLength},
	)
	return p.link()
}

// plain decides on nearly all packets there are: without tags, options and extension headers. The kernel compiles loads
// from fixed places into a few instructions, but makes a function call of one relative to X (convert_bpf_ld_abs,
// net/core/filter.c). That is the difference between 1 % and 3 % of a CPU that does nothing but VXLAN. Whatever is not
// plain goes on to ethernet.
func (p *program) plain(ports []uint16) {
	const ip, udp4, udp6 = etherHeader, etherHeader + ipv4Header, etherHeader + ipv6Header
	p.emit(bpf.LoadAbsolute{Off: ip - 2, Size: 2})
	p.gotoIf(etherIPv6, "plain6")
	p.otherwise(etherIPv4)
	p.emit(bpf.LoadAbsolute{Off: ip + 9, Size: 1})
	p.require(protoUDP)
	p.emit(bpf.LoadAbsolute{Off: ip, Size: 1})
	p.otherwise(0x45)
	p.emit(bpf.LoadAbsolute{Off: ip + 6, Size: 2}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x3fff})
	p.otherwise(0)
	p.plainUDP(udp4, ports)
	p.label("plain6")
	p.emit(bpf.LoadAbsolute{Off: ip + 6, Size: 1})
	p.otherwise(protoUDP)
	p.emit(bpf.LoadAbsolute{Off: ip, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	p.require(0x60)
	p.plainUDP(udp6, ports)
	p.label("other")
}

// otherwise leaves the short way unless A is v.
func (p *program) otherwise(v uint32) {
	p.emit(bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: 1})
	p.jump("other")
}

// plainUDP decides on the UDP header at a fixed place.
func (p *program) plainUDP(at uint32, ports []uint16) {
	port := fmt.Sprint("port at ", at)
	p.emit(bpf.LoadAbsolute{Off: at + 2, Size: 2})
	for _, n := range ports {
		p.gotoIf(uint32(n), port)
	}
	p.reject()
	p.label(port)
	p.emit(bpf.LoadAbsolute{Off: at + 6, Size: 2})
	p.refuse(0)
	p.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: at})
	p.jump("wanted")
}

// ethernet sets X to the offset of the IP header.
func (p *program) ethernet() {
	for tags := range maxVLANTags + 1 {
		offset := uint32(etherHeader + tags*vlanTag)
		next := fmt.Sprint("tag", tags)
		p.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: offset}, bpf.LoadAbsolute{Off: offset - 2, Size: 2})
		p.gotoIf(etherIPv4, "ipv4")
		p.gotoIf(etherIPv6, "ipv6")
		if tags < maxVLANTags {
			p.gotoIf(etherVLAN, next)
			p.gotoIf(etherQinQ, next)
			p.gotoIf(etherOldQ, next)
		}
		p.reject()
		p.label(next)
	}
}

// ipv4 expects X at the IPv4 header and leaves it at the UDP header (RFC 791).
func (p *program) ipv4() {
	p.label("ipv4")
	p.emit(bpf.LoadIndirect{Off: 9, Size: 1})
	p.require(protoUDP)
	p.emit(bpf.LoadIndirect{Off: 6, Size: 2}, // flags and fragment offset
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x1fff, SkipTrue: 1}, bpf.RetConstant{},
		bpf.LoadIndirect{Size: 1}, // version 4 and a header of at least 5 words
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 0x45, SkipTrue: 1}, bpf.RetConstant{},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 0x50, SkipTrue: 1}, bpf.RetConstant{},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0f},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2}, bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{})
	p.jump("udp")
}

// ipv6 expects X at the IPv6 header and leaves it at the UDP header, behind all extension headers (RFC 8200). The loop
// is unrolled: classic BPF only jumps forward.
func (p *program) ipv6() {
	const next = 0 // scratch memory: the protocol of what X points at
	p.label("ipv6")
	p.emit(bpf.LoadIndirect{Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	p.require(0x60)
	p.emit(bpf.LoadIndirect{Off: 6, Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: next},
		bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: ipv6Header}, bpf.TAX{},
		bpf.LoadScratch{Dst: bpf.RegA, N: next})
	p.gotoIf(protoUDP, "udp")
	for i := range maxExtensions {
		fragment, skip, after := fmt.Sprint("fragment", i), fmt.Sprint("skip", i), fmt.Sprint("after", i)
		p.gotoIf(protoFragment, fragment)
		p.gotoIf(protoDestination, skip)
		p.gotoIf(protoHopByHop, skip)
		p.gotoIf(protoRouting, skip)
		p.reject()
		p.label(fragment)
		p.emit(bpf.LoadIndirect{Off: 2, Size: 2}, // offset in units of 8 bytes, shifted by 3
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0xfff8, SkipTrue: 1}, bpf.RetConstant{},
			bpf.LoadIndirect{Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: next},
			bpf.LoadConstant{Dst: bpf.RegA, Val: 8})
		p.jump(after)
		p.label(skip)
		p.emit(bpf.LoadIndirect{Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: next},
			bpf.LoadIndirect{Off: 1, Size: 1}, // length in units of 8 bytes, without the first
			bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3})
		p.label(after)
		p.emit(bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: next})
		p.gotoIf(protoUDP, "udp")
	}
	p.reject()
}

// udp expects X at the UDP header (RFC 768).
func (p *program) udp(ports []uint16) {
	p.emit(bpf.LoadIndirect{Off: 2, Size: 2})
	for _, port := range ports {
		p.gotoIf(uint32(port), "port")
	}
	p.reject()
	p.label("port")
	p.emit(bpf.LoadIndirect{Off: 6, Size: 2})
	p.refuse(0)
}

// sample lets f.Ratio of the packets go on.
func (p *program) sample(f Filter) {
	if f.NoRandom {
		// The outer checksum mixed with 16 bits of the inner IP header (the IPv4 identification): they differ from packet to
		// packet even where the checksum is always 0xffff. Fibonacci hashing spreads consecutive numbers evenly.
		const innerID = udpHeader + vxlanHeader + etherHeader + 4
		p.emit(bpf.StoreScratch{Src: bpf.RegX, N: 1}, bpf.LoadIndirect{Off: innerID, Size: 2},
			bpf.StoreScratch{Src: bpf.RegA, N: 2}, bpf.LoadIndirect{Off: 6, Size: 2},
			bpf.LoadScratch{Dst: bpf.RegX, N: 2}, bpf.ALUOpX{Op: bpf.ALUOpXor},
			bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: 0x9e3779b1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16},
			bpf.LoadScratch{Dst: bpf.RegX, N: 1})
	} else {
		p.emit(bpf.LoadExtension{Num: bpf.ExtRand})
	}
	p.emit(bpf.JumpIf{Cond: bpf.JumpLessThan, Val: f.threshold(), SkipTrue: 1}, bpf.RetConstant{})
}
