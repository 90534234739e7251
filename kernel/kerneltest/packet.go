package kerneltest

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxlan_exporter/kernel/packet"
)

// OpenPacket is a packet.Opener. No packet ever comes.
func (k *Kernel) OpenPacket() (packet.Socket, error) {
	if err := k.opened(Packets); err != nil {
		return nil, fmt.Errorf("open AF_PACKET socket: %w", err)
	}
	return &packetSocket{k: k, done: make(chan struct{})}, nil
}

type packetSocket struct {
	deadline
	k    *Kernel
	done chan struct{}
	once sync.Once
}

func (s *packetSocket) Interface(name string) (packet.Interface, error) {
	if s.k.isGone(name) {
		return packet.Interface{}, fmt.Errorf("look up the interface: %w: %w", unix.ENODEV, fs.ErrNotExist)
	}
	f, _ := s.k.fault(Packets)
	return packet.Interface{Index: nicIndex, MTU: 1500, Up: f.Receive != unix.ENETDOWN}, nil //nolint:errorlint // the fault's own value
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

func (s *packetSocket) Receive(_, _ []byte, wait bool) (n, oobn int, from unix.SockaddrLinklayer, err error) {
	for {
		f, changed := s.k.fault(Packets)
		switch {
		case f.Hung:
			<-changed
		case f.Receive != nil:
			return 0, 0, from, os.NewSyscallError("recvmsg", f.Receive)
		case s.k.isGone(NIC):
			return 0, 0, from, os.NewSyscallError("recvmsg", unix.ENETDOWN)
		case !wait:
			return 0, 0, from, unix.EAGAIN
		}
		woken := make(chan struct{})
		stop := make(chan struct{})
		go func() {
			defer close(woken)
			select {
			case <-changed:
			case <-s.done:
			case <-stop:
			}
		}()
		late := s.wait(woken)
		close(stop)
		<-woken
		switch {
		case late:
			return 0, 0, from, os.ErrDeadlineExceeded
		case s.isClosed():
			return 0, 0, from, os.ErrClosed
		}
	}
}

func (s *packetSocket) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *packetSocket) SetReadDeadline(t time.Time) error { return s.SetDeadline(t) }

func (s *packetSocket) Stats() (packets, drops uint32, err error) { return 0, 0, nil }

func (s *packetSocket) IgnoreOutgoing(bool) error {
	if s.k.Old {
		return unix.ENOPROTOOPT
	}
	return nil
}

func (s *packetSocket) Rest(index int) error { return s.Bind(index) }

func (s *packetSocket) Counts(int) (packet.Counts, error) { return packet.Counts{}, nil }

func (s *packetSocket) Close() error {
	s.once.Do(func() {
		close(s.done)
		s.k.closed(Packets)
	})
	return nil
}
