package kerneltest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
)

// features are those that every device has, by bit; the last is fixed and off.
func features() []string {
	return []string{"tx-scatter-gather", "tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation", "", "tx-udp_tnl-segmentation"}
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
	if s.k.NoIoctl {
		return unix.EOPNOTSUPP
	}
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

// OpenGeneric opens a generic netlink socket.
func (k *Kernel) OpenGeneric() (ethtool.NetlinkConn, error) {
	if err := k.opened(Generic); err != nil {
		return nil, err
	}
	return &genericConn{k: k}, nil
}

type genericConn struct {
	deadline
	k *Kernel
}

func (c *genericConn) Close() error {
	c.k.closed(Generic)
	return nil
}

func (c *genericConn) GetFamily(name string) (genetlink.Family, error) {
	if c.k.Old {
		return genetlink.Family{}, &netlink.OpError{Op: "receive", Err: unix.ENOENT}
	}
	if f, _ := c.k.fault(Generic); f.After == 0 { // else it is the later question that fails
		if err := c.k.call(Generic, "", &c.deadline); err != nil {
			return genetlink.Family{}, &netlink.OpError{Op: "receive", Err: err}
		}
	}
	return genetlink.Family{Name: name, ID: 21, Version: 1}, nil
}

// Execute answers ETHTOOL_MSG_STRSET_GET, _FEATURES_GET, _LINKSTATE_GET and _PRIVFLAGS_GET.
func (c *genericConn) Execute(m genetlink.Message, _ uint16, _ netlink.HeaderFlags) ([]genetlink.Message, error) {
	f, _ := c.k.fault(Generic)
	if err := c.k.call(Generic, "", &c.deadline); err != nil {
		return nil, &netlink.OpError{Op: "receive", Err: err}
	}
	if f.OtherSequence || f.OtherPort { // as package netlink puts it (Validate)
		return nil, &netlink.OpError{Op: "validate", Err: errors.New("mismatched sequence in netlink reply")}
	}
	ae := netlink.NewAttributeEncoder()
	nest := func(ae *netlink.AttributeEncoder, typ uint16, in func(ae *netlink.AttributeEncoder)) {
		ae.Nested(typ, func(ae *netlink.AttributeEncoder) error {
			in(ae)
			return nil
		})
	}
	switch m.Header.Command {
	case 1:
		nest(ae, 2, func(ae *netlink.AttributeEncoder) {
			nest(ae, 1, func(ae *netlink.AttributeEncoder) {
				ae.Uint32(1, 4)
				ae.Uint32(2, uint32(len(features())))
				nest(ae, 3, func(ae *netlink.AttributeEncoder) {
					for i, name := range features() {
						nest(ae, 1, func(ae *netlink.AttributeEncoder) {
							ae.Uint32(1, uint32(i))
							ae.String(2, name)
						})
					}
				})
			})
		})
	case 11:
		for typ, bits := range map[uint16]uint32{2: featuresOn, 3: featuresOn, 4: featuresOn, 5: 0} {
			nest(ae, typ, func(ae *netlink.AttributeEncoder) {
				ae.Uint32(2, uint32(len(features())))
				ae.Bytes(4, binary.NativeEndian.AppendUint32(nil, bits))
			})
		}
	case 6: // ETHTOOL_A_LINKSTATE_LINK
		ae.Uint8(2, 1)
	case 13: // ETHTOOL_A_PRIVFLAGS_FLAGS, a set of names
		m.Header.Command = 14
		nest(ae, 2, func(ae *netlink.AttributeEncoder) {
			nest(ae, 3, func(ae *netlink.AttributeEncoder) {
				nest(ae, 1, func(ae *netlink.AttributeEncoder) { ae.String(2, "rx_no_csum_complete") })
			})
		})
	default:
		return nil, fmt.Errorf("no answer to command %d", m.Header.Command)
	}
	b, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	reply := []genetlink.Message{{Header: m.Header, Data: b[:max(0, len(b)-f.Cut)]}}
	if f.Endless {
		reply = append(reply, reply...)
	}
	return reply, nil
}
