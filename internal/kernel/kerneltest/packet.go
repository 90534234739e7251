package kerneltest

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/capture"
)

// OpenPacket is a capture.Opener. No packet ever comes.
func (k *Kernel) OpenPacket() (capture.Socket, error) {
	if err := k.opened(Packets); err != nil {
		return nil, fmt.Errorf("open AF_PACKET socket: %w", err)
	}
	return &packetSocket{k: k}, nil
}

type packetSocket struct {
	k    *Kernel
	once sync.Once
}

func (s *packetSocket) Interface(name string) (capture.Interface, error) {
	if s.k.isGone(name) {
		return capture.Interface{}, fmt.Errorf("look up the interface: %w: %w", unix.ENODEV, fs.ErrNotExist)
	}
	f, _ := s.k.fault(Packets)
	down := f.Receive == unix.ENETDOWN //nolint:errorlint // the fault's own value
	return capture.Interface{Index: nicIndex, MTU: 1500, Up: !down}, nil
}

func (s *packetSocket) SetFilter(program []bpf.RawInstruction) error {
	random, err := bpf.LoadExtension{Num: bpf.ExtRand}.Assemble()
	if err == nil && s.k.Old && slices.Contains(program, random) {
		err = os.NewSyscallError("setsockopt", unix.EINVAL)
	}
	return err
}

func (s *packetSocket) Bind(int) error {
	f, _ := s.k.fault(Packets)
	return f.Send
}

func (s *packetSocket) Receive([]capture.Message) (n int, err error) {
	for {
		f, changed := s.k.fault(Packets)
		switch {
		case f.Hung:
			<-changed
		case f.Receive != nil:
			s.k.mu.Lock()
			s.k.broken++
			s.k.mu.Unlock()
			return 0, os.NewSyscallError("recvmmsg", f.Receive)
		case s.k.isGone(NIC):
			return 0, os.NewSyscallError("recvmmsg", unix.ENETDOWN)
		default:
			return 0, unix.EAGAIN
		}
	}
}

func (s *packetSocket) Stats() (packets, drops uint32, err error) { return 0, 0, nil }

func (s *packetSocket) IgnoreOutgoing(bool) error {
	if s.k.Old {
		return unix.ENOPROTOOPT
	}
	return nil
}

func (s *packetSocket) Rest(index int) error { return s.Bind(index) }

func (s *packetSocket) Close() error {
	s.once.Do(func() { s.k.closed(Packets) })
	return nil
}
