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
	req, err := unix.NewIfreq(name)
	if err != nil {
		return Interface{}, fmt.Errorf("no such name can be: %w", fs.ErrNotExist)
	}
	var answers [4]unix.Ifreq // the kernel keeps the name and overwrites the rest
	for i, request := range []uint{unix.SIOCGIFINDEX, unix.SIOCGIFMTU, unix.SIOCGIFFLAGS, unix.SIOCGIFHWADDR} {
		answers[i] = *req
		err := s.control(func(fd int) error { return unix.IoctlIfreq(fd, request, &answers[i]) })
		if errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		}
		if err != nil {
			return Interface{}, fmt.Errorf("look up the interface: %w", err)
		}
	}
	index, mtu, flags, hardware := &answers[0], &answers[1], &answers[2], &answers[3]
	i := Interface{Index: int(index.Uint32()), MTU: int(mtu.Uint32()), Up: flags.Uint16()&unix.IFF_UP != 0}
	switch hardware.Uint16() {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		i.Link = Ethernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP:
		i.Link = RawIP
	default:
		return Interface{}, fmt.Errorf(
			"link layer type %d (ARPHRD_*) is not understood: %w",
			hardware.Uint16(),
			errors.ErrUnsupported,
		)
	}
	return i, nil
}
