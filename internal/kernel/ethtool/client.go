// Package ethtool reads offload features, driver and link state of network devices: features and driver by the
// SIOCETHTOOL ioctl, which every kernel has, link state and private flags by github.com/mdlayher/ethtool over the
// generic netlink family "ethtool" (5.6).
//
// The ioctl asks by name. SIOCGIFINDEX then tells whether the name is still that of the device that was listed: 0.6 µs
// of the 2.4 µs that a device costs, on a 2-core VM. One that was renamed meanwhile counts as gone until the next
// observation.
//
// Nothing here but SetTxChecksum needs a capability.
package ethtool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Device names a network device both ways. The ioctl asks by name: a device that does not have the name any more is
// gone, also when another has it; Index 0 stands for whichever device has the name.
type Device struct {
	Index int
	Name  string
}

// Client reads features and drivers by ioctl. It opens its socket when it first needs it; Close closes it and keeps
// what was learned about the kernel, and the Client can then be used again. It is not safe for concurrent use.
//
// The error of a device that is gone satisfies fs.ErrNotExist, the error of a kernel that has no such interface
// errors.ErrUnsupported.
type Client struct {
	open  func() (IoctlSocket, error)
	sock  IoctlSocket
	names []string // of the features, by bit; nil until read
	buf   []byte   // of the requests
}

// NewClient returns a Client; nil opens by OpenIoctl, in the network namespace of the calling thread. It opens nothing
// yet.
func NewClient(open func() (IoctlSocket, error)) *Client {
	if open == nil {
		open = OpenIoctl
	}
	return &Client{open: open}
}

// Features reads the offload features of a device. It needs no capability.
func (c *Client) Features(ctx context.Context, d Device) (f Features, err error) {
	err = explain(ctx, "features of", d, func() (err error) { f, err = c.features(d); return err })
	return f, err
}

// Driver reads a device's driver. It needs no capability.
func (c *Client) Driver(ctx context.Context, d Device) (driver Driver, err error) {
	err = explain(ctx, "driver of", d, func() (err error) { driver, err = c.driver(d); return err })
	return driver, err
}

// SetTxChecksum switches every transmit checksum offload of a device that it can switch, as ethtool -K DEVICE tx on|off
// does (ethtool_set_one_feature, net/ethtool/ioctl.c). Kernels of all ages have it; it needs CAP_NET_ADMIN.
func (c *Client) SetTxChecksum(ctx context.Context, d Device, on bool) error {
	value := uint32(0)
	if on {
		value = 1
	}
	return explain(ctx, "set transmit checksums of", d, func() error {
		if err := c.still(d); err != nil {
			return err
		}
		_, err := c.call(d.Name, unix.ETHTOOL_STXCSUM, valueLen, value)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
		}
		if err != nil {
			return fmt.Errorf("ETHTOOL_STXCSUM: %w", err)
		}
		return nil
	})
}

// Close closes the socket.
func (c *Client) Close() error {
	if c.sock == nil {
		return nil
	}
	err := c.sock.Close()
	c.sock = nil
	return err
}

func (c *Client) socket() (_ IoctlSocket, err error) {
	if c.sock == nil {
		if c.sock, err = c.open(); err != nil {
			return nil, fmt.Errorf("open socket: %w", err)
		}
	}
	return c.sock, nil
}

// explain runs f and says what of which device failed. ENODEV satisfies fs.ErrNotExist then.
func explain(ctx context.Context, what string, d Device, f func() error) error {
	err := ctx.Err()
	if err == nil {
		err = f()
	}
	if errors.Is(err, unix.ENODEV) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("ethtool: %s %q: %w", what, d.Name, err)
	}
	return nil
}

// maxFeatures bounds the number of features believed. Linux 6.18 has 64 (include/linux/netdev_features.h,
// NETDEV_FEATURE_COUNT).
const maxFeatures = 1024

// setName stores names[i], as valid UTF-8 and never twice, so that a name identifies a feature.
func setName(names []string, i int, name []byte) {
	s := strings.ToValidUTF8(string(name), "\uFFFD")
	for j, other := range names {
		if j != i && other == s {
			return
		}
	}
	names[i] = s
}
