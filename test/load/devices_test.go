//go:build load

package load_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab"
)

// churn makes, renames and deletes devices of a namespace as fast as the kernel lets it.
type churn struct {
	route    *netlink.Conn
	features *ethtool.Client
	last     device
	made     atomic.Uint32
}

// openChurn prepares a churn in the namespace.
func openChurn(n *lab.NS) (*churn, error) {
	var c churn
	err := n.Do(func() (err error) {
		if c.route, err = netlink.Dial(unix.NETLINK_ROUTE, nil); err != nil {
			return err
		}
		socket, err := ethtool.OpenIoctl()
		c.features = ethtool.NewClient(func() (ethtool.IoctlSocket, error) { return socket, nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("churn: %w", err)
	}
	return &c, nil
}

// Close closes the sockets.
func (c *churn) Close() error { return errors.Join(c.route.Close(), c.features.Close()) }

// newest is the device made last.
func (c *churn) newest() device { return device(c.made.Load()) }

// group is the device group of a batch: all of a group are deleted by one request, for one wait until the kernel has
// let go of them.
const group = 77

// batch makes n devices, brings every other one up, renames them and deletes them all. It stops early when ctx ends,
// and deletes what is there in any case.
func (c *churn) batch(ctx context.Context, n int) (err error) {
	defer func() {
		_, deleted := c.do(unix.RTM_DELLINK, 0, link(0, 0),
			func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_GROUP, group) })
		if deleted != nil {
			err = errors.Join(err, fmt.Errorf("churn: delete a batch: %w", deleted))
		}
	}()
	reused := map[string]device{}
	for range n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.last++
		c.made.Store(uint32(c.last))
		d := c.last
		if err := c.make(d, group); err != nil {
			return err
		}
		// The device before it gives up a name that is used again, by renaming or by its end.
		if before, taken := reused[d.settled()]; taken {
			if err := c.giveUp(before); err != nil {
				return err
			}
		}
		if d%7 == 0 {
			reused[d.settled()] = d
		}
		if err := c.rename(d.fresh(), d.settled()); err != nil {
			return err
		}
		if d%2 == 0 {
			if err := c.up(d.settled()); err != nil {
				return err
			}
		}
		if d%7 != 0 && d.isRenamed() {
			if err := c.rename(d.settled(), d.renamed()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *churn) giveUp(d device) error {
	if d.isRenamed() {
		return c.rename(d.settled(), d.renamed())
	}
	return c.delete(d.settled())
}

// Attributes of IFLA_VXLAN (include/uapi/linux/if_link.h).
const (
	vxlanID       = 1
	vxlanLocal    = 4
	vxlanLearning = 7
	vxlanPort     = 15
	vxlanLocal6   = 17
	vxlanUDPCsum  = 18
)

// make makes a device under its fresh name, in a device group, and sets its features.
func (c *churn) make(d device, group uint32) error {
	_, err := c.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, link(0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, d.fresh())
		ae.Uint32(unix.IFLA_GROUP, group)
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, "vxlan")
			ae.Nested(unix.IFLA_INFO_DATA, func(ae *netlink.AttributeEncoder) error {
				ae.Uint32(vxlanID, uint32(d))
				ae.Bytes(vxlanPort, binary.BigEndian.AppendUint16(nil, d.port()))
				attr := uint16(vxlanLocal)
				if d.ipv6() {
					attr = vxlanLocal6
				}
				ae.Bytes(attr, netip.MustParseAddr(d.local()).AsSlice())
				ae.Uint8(vxlanLearning, 0)
				ae.Uint8(vxlanUDPCsum, uint8(b2u(d.udpChecksum()))) //nolint:gosec // 0 or 1
				return nil
			})
			return nil
		})
	})
	if err == nil && !d.txChecksum() {
		err = c.features.SetTxChecksum(context.Background(), ethtool.Device{Name: d.fresh()}, false)
	}
	if err != nil {
		return fmt.Errorf("churn: make %s: %w", d.fresh(), err)
	}
	return nil
}

// settle gives a fresh device its settled name.
func (c *churn) settle(d device) error { return c.rename(d.fresh(), d.settled()) }

func (c *churn) rename(from, to string) error {
	index, err := c.index(from)
	if err == nil {
		_, err = c.do(unix.RTM_NEWLINK, 0, link(index, 0),
			func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, to) })
	}
	if err != nil {
		return fmt.Errorf("churn: rename %s to %s: %w", from, to, err)
	}
	return nil
}

func (c *churn) up(name string) error {
	if _, err := c.do(unix.RTM_NEWLINK, 0, link(0, unix.IFF_UP),
		func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) }); err != nil {
		return fmt.Errorf("churn: bring %s up: %w", name, err)
	}
	return nil
}

// delete deletes one device.
func (c *churn) delete(name string) error {
	if _, err := c.do(unix.RTM_DELLINK, 0, link(0, 0),
		func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) }); err != nil {
		return fmt.Errorf("churn: delete %s: %w", name, err)
	}
	return nil
}

func (c *churn) index(name string) (uint32, error) {
	answer, err := c.do(unix.RTM_GETLINK, 0, link(0, 0),
		func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) })
	if err != nil {
		return 0, err
	}
	if len(answer) == 0 || len(answer[0].Data) < unix.SizeofIfInfomsg {
		return 0, fmt.Errorf("no link %s", name)
	}
	return binary.NativeEndian.Uint32(answer[0].Data[4:]), nil
}

// do sends a request and waits until it is done.
func (c *churn) do(
	kind netlink.HeaderType, flags netlink.HeaderFlags, fixed []byte, f func(*netlink.AttributeEncoder),
) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	f(ae)
	b, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	flags |= netlink.Request
	if kind != unix.RTM_GETLINK {
		flags |= netlink.Acknowledge
	}
	return c.route.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: flags}, Data: append(fixed, b...)})
}

// link is struct ifinfomsg; flags are those to switch on.
func link(index, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return b
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
