package capture

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxPorts bounds the program: with two instructions to a port it stays far below the kernel's 4096 (BPF_MAXINSNS).
const maxPorts = 1024

// headersLength is how much of a packet is kept that is too long to be judged by its whole content: all headers up to
// the inner TCP header, with two VLAN tags and inner options.
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

// scale is how many values the number has that picks.
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
// It loads from fixed places, which the kernel compiles into a few instructions each, but makes a function call of a
// load relative to X (convert_bpf_ld_abs, net/core/filter.c): 1 % instead of 3 % of a CPU that does nothing but VXLAN.
// So packets with IPv4 options or IPv6 extension headers do not pass: Linux puts none before VXLAN's UDP header but
// that of a fragment, which cannot be judged. Tags in the frame are skipped; the one that the kernel has taken out
// needs nothing.
func (f Filter) Program() ([]bpf.RawInstruction, error) {
	if len(f.Ports) > maxPorts {
		return nil, fmt.Errorf("packet filter: %d VXLAN ports, more than %d", len(f.Ports), maxPorts)
	}
	raw, err := bpf.Assemble(f.instructions())
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	return raw, nil
}

func (f Filter) instructions() []bpf.Instruction {
	p := program{jumps: map[string][]int{}}
	if f.Link == RawIP {
		p.emit(bpf.LoadAbsolute{Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
		p.ip(0, 0x40, 0x60)
	} else {
		for tags := range maxVLANTags + 1 {
			p.ethernet(tags)
		}
	}
	p.label("ports")
	for _, port := range f.Ports {
		p.gotoIf(uint32(port), "wanted")
	}
	p.emit(bpf.RetConstant{})
	p.label("wanted")
	// A bridge port or promiscuous NIC also sees what is meant for others.
	p.emit(bpf.LoadExtension{Num: bpf.ExtType})
	p.require(bpf.JumpNotEqual, unix.PACKET_OTHERHOST)
	if f.Ratio < 1 {
		p.sample(f)
	}
	p.emit(
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(max(f.MaxLength, 0)), SkipTrue: 1},
		bpf.RetConstant{Val: everything},
		bpf.RetConstant{Val: headersLength},
	)
	return p.ins
}

// program is a classic BPF program under construction. Its conditional jumps reach only 255 instructions ahead, so
// those to a label, which is always ahead, go over an unconditional one, which reaches everywhere.
type program struct {
	ins   []bpf.Instruction
	jumps map[string][]int // where those to labels to come stand
}

func (p *program) emit(ins ...bpf.Instruction) { p.ins = append(p.ins, ins...) }

// require rejects the packet unless A and v are so.
func (p *program) require(is bpf.JumpTest, v uint32) {
	p.emit(bpf.JumpIf{Cond: is, Val: v, SkipTrue: 1}, bpf.RetConstant{})
}

func (p *program) gotoIf(v uint32, label string) {
	p.emit(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1})
	p.jump(label)
}

func (p *program) jump(label string) {
	p.jumps[label] = append(p.jumps[label], len(p.ins))
	p.emit(bpf.Jump{})
}

func (p *program) label(name string) {
	for _, at := range p.jumps[name] {
		p.ins[at] = bpf.Jump{Skip: uint32(len(p.ins) - at - 1)}
	}
}

// ethernet expects so many tags in the frame; of one more, it goes on to the next.
func (p *program) ethernet(tags int) {
	at := uint32(etherHeader + tags*vlanTag)
	p.label(fmt.Sprint("tags ", tags))
	p.emit(bpf.LoadAbsolute{Off: at - 2, Size: 2})
	if tags < maxVLANTags {
		for _, tag := range vlanTypes {
			p.gotoIf(uint32(tag), fmt.Sprint("tags ", tags+1))
		}
	}
	p.ip(at, unix.ETH_P_IP, unix.ETH_P_IPV6)
}

// ip decides on the IP header at a fixed place, of which A tells the version (RFC 791, RFC 8200).
func (p *program) ip(at, version4, version6 uint32) {
	six := fmt.Sprint("ipv6 at ", at)
	p.gotoIf(version6, six)
	p.require(bpf.JumpEqual, version4)
	p.emit(bpf.LoadAbsolute{Off: at + 9, Size: 1})
	p.require(bpf.JumpEqual, unix.IPPROTO_UDP)
	p.emit(bpf.LoadAbsolute{Off: at, Size: 1})
	p.require(bpf.JumpEqual, 0x45)
	p.emit(bpf.LoadAbsolute{Off: at + 6, Size: 2}) // flags and fragment offset; a first fragment counts as unjudgeable
	p.require(bpf.JumpBitsNotSet, 0x1fff)
	p.udp(at + ipv4Header)
	p.label(six)
	p.emit(bpf.LoadAbsolute{Off: at + 6, Size: 1})
	p.require(bpf.JumpEqual, unix.IPPROTO_UDP)
	p.emit(bpf.LoadAbsolute{Off: at, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	p.require(bpf.JumpEqual, 0x60)
	p.udp(at + ipv6Header)
}

// udp refuses a UDP header without a checksum and leaves X at it, the destination port in A (RFC 768).
func (p *program) udp(at uint32) {
	p.emit(bpf.LoadAbsolute{Off: at + 6, Size: 2})
	p.require(bpf.JumpNotEqual, 0)
	p.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: at}, bpf.LoadAbsolute{Off: at + 2, Size: 2})
	p.jump("ports")
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
	p.require(bpf.JumpLessThan, f.threshold())
}
