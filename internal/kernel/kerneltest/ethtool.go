package kerneltest

import (
	"encoding/binary"
	"errors"
	"time"

	mdlayher "github.com/mdlayher/ethtool"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
)

// features are those that every device has, by bit; the last is fixed and off.
func features() []string {
	return []string{
		"tx-scatter-gather", "tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation", "",
		"tx-udp_tnl-segmentation",
	}
}

// featuresOn are the bits of the features that are on.
const featuresOn = 1<<0 | 1<<1 | 1<<2 | 1<<3

// OpenIoctl opens the socket for SIOCETHTOOL.
func (k *Kernel) OpenIoctl() (ethtool.IoctlSocket, error) {
	if err := k.opened(Ioctl); err != nil {
		return nil, err
	}
	return ioctlSocket{k}, nil
}

type ioctlSocket struct{ k *Kernel }

func (s ioctlSocket) Close() error {
	s.k.closed(Ioctl)
	return nil
}

// Ethtool answers ETHTOOL_GDRVINFO, _GSSET_INFO, _GSTRINGS and _GFEATURES (include/uapi/linux/ethtool.h).
func (s ioctlSocket) Ethtool(name string, b []byte) error {
	if err := s.k.call(Ioctl, name, nil); err != nil {
		return err
	}
	if s.k.isGone(name) {
		return unix.ENODEV
	}
	put := func(at int, v uint32) { binary.NativeEndian.PutUint32(b[at:], v) }
	f, _ := s.k.fault(Ioctl)
	short := uint32(0)
	if f.about(name) && f.Cut > 0 { // fewer features than there are names
		short = 1
	}
	switch binary.NativeEndian.Uint32(b) {
	case 0x03:
		driver := "vxlan"
		if name == NIC {
			driver = "mlx5_core"
		}
		copy(b[4:36], driver)
		copy(b[68:100], "16.35.2000")
	case 0x37:
		put(16, uint32(len(features())))
	case 0x1b:
		put(8, uint32(len(features()))-short)
		for i, n := range features() {
			copy(b[12+32*i:][:32], n)
		}
	case 0x3a:
		put(4, 1)
		put(8, featuresOn)  // available
		put(12, featuresOn) // requested
		put(16, featuresOn) // active
	default:
		return unix.EOPNOTSUPP
	}
	return nil
}

// Index answers SIOCGIFINDEX.
func (s ioctlSocket) Index(name string) (int, error) {
	index, ok := map[string]int{"lo": 1, NIC: nicIndex, Flannel: flannelIndex, ByAddress: byAddressIndex}[name]
	if !ok || s.k.isGone(name) {
		return 0, unix.ENODEV
	}
	if f, _ := s.k.fault(Ioctl); f.about(name) && f.OtherDevice {
		index += 100
	}
	return index, nil
}

// OpenLinks opens a client of the generic netlink family "ethtool".
func (k *Kernel) OpenLinks() (ethtool.LinkClient, error) {
	if k.Old {
		return nil, errors.ErrUnsupported
	}
	f, _ := k.fault(Generic)
	switch {
	case f.Refuse == unix.ENOENT: //nolint:errorlint // the fault's own value
		return nil, errors.ErrUnsupported
	case f.Refuse != nil && f.After == 0: // else it is the later question that is refused
		return nil, &netlink.OpError{Op: "receive", Err: f.Refuse}
	}
	if err := k.opened(Generic); err != nil {
		return nil, err
	}
	return &linkClient{k: k}, nil
}

// linkClient is package github.com/mdlayher/ethtool: its calls end when it is closed, and it panics on more answers
// than one.
type linkClient struct {
	deadline
	k *Kernel
}

func (c *linkClient) Close() error {
	c.k.closed(Generic)
	return c.SetDeadline(time.Unix(1, 0))
}

func (c *linkClient) call() error {
	f, _ := c.k.fault(Generic)
	err := c.k.call(Generic, "", &c.deadline)
	switch {
	case err != nil:
		return &mdlayher.Error{Err: &netlink.OpError{Op: "receive", Err: err}}
	case f.OtherSequence || f.OtherPort: // as package netlink puts it (Validate)
		return &mdlayher.Error{Err: &netlink.OpError{Op: "validate", Err: errors.New("mismatched sequence in netlink reply")}}
	case f.Cut > 0:
		return errors.New("invalid attribute; length too short or too large")
	case f.Repeated:
		panic("ethtool: unexpected number of messages: 2")
	}
	return nil
}

func (c *linkClient) LinkState(ifi mdlayher.Interface) (*mdlayher.LinkState, error) {
	return &mdlayher.LinkState{Interface: ifi, Link: true}, c.call()
}

func (c *linkClient) PrivateFlags(ifi mdlayher.Interface) (*mdlayher.PrivateFlags, error) {
	return &mdlayher.PrivateFlags{Interface: ifi, Flags: map[string]bool{"rx_no_csum_complete": false}}, c.call()
}
