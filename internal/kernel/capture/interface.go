package capture

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Interface is what a Capture needs to know of a network interface.
type Interface struct {
	Index  int
	MTU    int // bytes, without the link-layer header
	Up     bool
	Link   Link
	Counts Counts
}

// Counts are packets that an interface has received and sent.
type Counts struct{ Received, Sent uint64 }

// Interface asks over rtnetlink.
func (s *packetSocket) Interface(name string) (Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nic, err := s.route.NICByName(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // whose error names the interface, as the callers do
		return Interface{}, fmt.Errorf("look up the interface: %w: %w", unix.ENODEV, fs.ErrNotExist)
	case err != nil:
		return Interface{}, err
	}
	i := Interface{Index: nic.Index, MTU: int(nic.MTU), Up: nic.Up, Counts: Counts{nic.Received, nic.Sent}}
	switch nic.Type {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		i.Link = Ethernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP:
		i.Link = RawIP
	default:
		return Interface{}, fmt.Errorf("link layer type %d (ARPHRD_*) is not understood: %w", nic.Type, errors.ErrUnsupported)
	}
	return i, nil
}
