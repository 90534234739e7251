package capture

import (
	"errors"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Instructions is the program for a machine that knows no packet types: all packets are for this host.
func (f Filter) Instructions() []bpf.Instruction {
	ins := f.instructions()
	for i, in := range ins {
		if in == (bpf.LoadExtension{Num: bpf.ExtType}) {
			ins[i] = bpf.LoadConstant{Dst: bpf.RegA}
		}
	}
	return ins
}

// Describe reads what a socket says of a packet.
func Describe(m Meta, vnet, oob []byte) Meta {
	m.readVNet(vnet)
	m.readControl(oob)
	return m
}

// Flags are the file status flags of a socket that Open has opened (F_GETFL).
func Flags(s Socket) (flags int, err error) {
	p, ok := s.(*packetSocket)
	if !ok {
		return 0, errors.New("another socket")
	}
	err = p.control(func(fd int) error {
		flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err
	})
	return flags, err
}
