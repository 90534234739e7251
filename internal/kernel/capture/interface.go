package capture

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Interface is what a Capture needs to know of a network interface.
type Interface struct {
	Index int
	MTU   int // bytes, without the link-layer header
	Up    bool
	Link  Link
}

// Interface asks by ioctl, netdevice(7). The error of an interface that is not there satisfies fs.ErrNotExist.
func (s *packetSocket) Interface(name string) (Interface, error) {
	var i Interface
	var hardware uint16
	ask := func(request uint, take func(*unix.Ifreq)) error {
		req, err := unix.NewIfreq(name)
		if err != nil {
			return fmt.Errorf("no such name can be: %w", fs.ErrNotExist)
		}
		if err := s.control(func(fd int) error { return unix.IoctlIfreq(fd, request, req) }); err != nil {
			return err
		}
		take(req)
		return nil
	}
	for _, q := range []struct {
		request uint
		take    func(*unix.Ifreq)
	}{
		{unix.SIOCGIFINDEX, func(r *unix.Ifreq) { i.Index = int(r.Uint32()) }},
		{unix.SIOCGIFMTU, func(r *unix.Ifreq) { i.MTU = int(r.Uint32()) }},
		{unix.SIOCGIFFLAGS, func(r *unix.Ifreq) { i.Up = r.Uint16()&unix.IFF_UP != 0 }},
		{unix.SIOCGIFHWADDR, func(r *unix.Ifreq) { hardware = r.Uint16() }},
	} {
		err := ask(q.request, q.take)
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		}
		if err != nil {
			return Interface{}, fmt.Errorf("look up the interface: %w", err)
		}
	}
	switch hardware {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		i.Link = Ethernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP:
		i.Link = RawIP
	default:
		return Interface{}, fmt.Errorf("link layer type %d (ARPHRD_*) is not understood: %w", hardware, errors.ErrUnsupported)
	}
	return i, nil
}
