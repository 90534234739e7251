package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
)

// Requests and attributes, include/uapi/linux/ethtool_netlink.h.
const (
	msgFeaturesSet = 12 // ETHTOOL_MSG_FEATURES_SET, 5.7

	attrHeader        = 1      // ETHTOOL_A_FEATURES_HEADER
	attrHeaderIndex   = 1      // ETHTOOL_A_HEADER_DEV_INDEX
	attrHeaderName    = 2      // ETHTOOL_A_HEADER_DEV_NAME
	attrHeaderFlags   = 3      // ETHTOOL_A_HEADER_FLAGS
	omitReply         = 1 << 1 // ETHTOOL_FLAG_OMIT_REPLY
	attrWanted        = 3      // ETHTOOL_A_FEATURES_WANTED
	attrBitsetBits    = 3      // ETHTOOL_A_BITSET_BITS
	attrBitsetBitsBit = 1      // ETHTOOL_A_BITSET_BITS_BIT
	attrBitName       = 2      // ETHTOOL_A_BITSET_BIT_NAME
	attrBitValue      = 3      // ETHTOOL_A_BITSET_BIT_VALUE
)

// setTimeout bounds one request.
const setTimeout = 5 * time.Second

// Setter turns the feature of a device on or off: by generic netlink, and by ioctl on kernels before 5.7. It is not safe for
// concurrent use.
type Setter struct {
	genl   *genetlink.Conn // nil: this kernel has no such family, and the ioctl serves
	family uint16
	socket ethtool.IoctlSocket
	client *ethtool.Client // on the same socket
}

// NewSetter opens the sockets, in the network namespace of the calling thread.
func NewSetter() (*Setter, error) {
	s := &Setter{}
	genl, err := genetlink.Dial(nil)
	if err == nil {
		var f genetlink.Family
		if f, err = genl.GetFamily(unix.ETHTOOL_GENL_NAME); err == nil {
			s.genl, s.family = genl, f.ID
			return s, nil
		}
		_ = genl.Close()
	}
	ioctl, second := newIoctlSetter()
	if second != nil {
		return nil, fmt.Errorf("ethtool: open generic netlink: %w; open socket for ioctl: %w", err, second)
	}
	return ioctl, nil
}

// newIoctlSetter is a Setter for kernels that have nothing but the ioctl.
func newIoctlSetter() (*Setter, error) {
	socket, err := ethtool.OpenIoctl()
	if err != nil {
		return nil, err
	}
	return ioctlSetter(socket), nil
}

func ioctlSetter(socket ethtool.IoctlSocket) *Setter {
	same := func() (ethtool.IoctlSocket, error) { return socket, nil }
	return &Setter{socket: socket, client: ethtool.NewClient(ethtool.Config{Path: ethtool.Ioctl, OpenIoctl: same})}
}

// Set turns the feature of the device on or off. The error of a device that is gone, or has another name now, satisfies
// fs.ErrNotExist. It needs CAP_NET_ADMIN.
func (s *Setter) Set(ctx context.Context, index int, name string, on bool) error {
	err := s.set(ctx, index, name, on)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	}
	return fmt.Errorf("ethtool: set %s of %q: %w", Feature, name, err)
}

func (s *Setter) set(ctx context.Context, index int, name string, on bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.genl != nil {
		err := s.byNetlink(ctx, index, name, on)
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		// 5.6 has the family and not this request.
		ioctl, err := newIoctlSetter()
		if err != nil {
			return err
		}
		_ = s.genl.Close()
		*s = *ioctl
	}
	return s.byIoctl(ctx, index, name, on)
}

// byNetlink gives both index and name: the kernel refuses with ENODEV when they are not of the same device, so a name that another
// device has taken over meanwhile does no harm (ethnl_parse_header_dev_get, net/ethtool/netlink.c).
func (s *Setter) byNetlink(ctx context.Context, index int, name string, on bool) error {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrHeader, func(h *netlink.AttributeEncoder) error {
		h.Uint32(attrHeaderIndex, uint32(index))
		h.String(attrHeaderName, name)
		h.Uint32(attrHeaderFlags, omitReply)
		return nil
	})
	ae.Nested(attrWanted, func(w *netlink.AttributeEncoder) error {
		w.Nested(attrBitsetBits, func(bits *netlink.AttributeEncoder) error {
			bits.Nested(attrBitsetBitsBit, func(b *netlink.AttributeEncoder) error {
				b.String(attrBitName, Feature)
				b.Flag(attrBitValue, on)
				return nil
			})
			return nil
		})
		return nil
	})
	data, err := ae.Encode()
	if err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(setTimeout)
	}
	if err := s.genl.SetDeadline(deadline); err != nil {
		return err
	}
	m := genetlink.Message{Header: genetlink.Header{Command: msgFeaturesSet, Version: unix.ETHTOOL_GENL_VERSION}, Data: data}
	if _, err := s.genl.Execute(m, s.family, netlink.Request|netlink.Acknowledge); err != nil {
		return fmt.Errorf("ETHTOOL_MSG_FEATURES_SET: %w", err)
	}
	return nil
}

// byIoctl sets all transmit checksums that the device can switch, of which a VXLAN device has only this one (vxlan_setup,
// drivers/net/vxlan). The ioctl knows names only, so it is asked first whose name
// it is, and of what driver.
func (s *Setter) byIoctl(ctx context.Context, index int, name string, on bool) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, ":\x00") {
		return fmt.Errorf("no name for an ioctl: %w", unix.ENODEV)
	}
	if driver, err := s.client.Driver(ctx, ethtool.Device{Index: index, Name: name}); err != nil {
		return err
	} else if driver.Name != "vxlan" {
		return fmt.Errorf("the name is a %s device's now: %w", driver.Name, unix.ENODEV)
	}
	return ethtool.SetTxChecksum(s.socket, name, on)
}

// Close closes the sockets.
func (s *Setter) Close() error {
	if s.genl != nil {
		return s.genl.Close()
	}
	return s.socket.Close()
}
