package packet

import "golang.org/x/net/bpf"

// MaxExtensions is how many IPv6 extension headers are walked over.
const MaxExtensions = maxExtensions

// Instructions is the program for a machine that knows no packet types: all packets are for this host.
func (f Filter) Instructions() ([]bpf.Instruction, error) {
	ins, err := f.instructions()
	for i, in := range ins {
		if in == (bpf.LoadExtension{Num: bpf.ExtType}) {
			ins[i] = bpf.LoadConstant{Dst: bpf.RegA}
		}
	}
	return ins, err
}

// Describe reads what a socket says of a packet.
func Describe(m Meta, vnet, oob []byte) Meta {
	m.readVNet(vnet)
	m.readControl(oob)
	return m
}
