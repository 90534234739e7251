package ethtool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Device names a network device both ways. The ioctl asks by name: a device that does not have the name any more is gone, also when
// another has it; Index 0 stands for whichever device has the name.
type Device struct {
	Index int
	Name  string
}

// Client reads features and drivers by ioctl. It opens its socket when it first needs it; Close closes it and keeps what was learned
// about the kernel, and the Client can then be used again. It is not safe for concurrent use.
type Client struct{ ioctl ioctlReader }

// NewClient returns a Client; nil opens by OpenIoctl, in the network namespace of the calling thread. It opens nothing yet.
func NewClient(open func() (IoctlSocket, error)) *Client {
	if open == nil {
		open = OpenIoctl
	}
	return &Client{ioctlReader{open: open}}
}

// Features reads the offload features of a device. It needs no capability. The error of a device that is gone satisfies
// fs.ErrNotExist, the error of a kernel that has no such interface errors.ErrUnsupported.
func (c *Client) Features(ctx context.Context, d Device) (Features, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ethtool: features of %q: %w", d.Name, err)
	}
	f, err := c.ioctl.features(d)
	if err != nil {
		return nil, fmt.Errorf("ethtool: features of %q: %w", d.Name, gone(err))
	}
	return f, nil
}

// Driver reads a device's driver. It needs no capability.
func (c *Client) Driver(ctx context.Context, d Device) (Driver, error) {
	if err := ctx.Err(); err != nil {
		return Driver{}, fmt.Errorf("ethtool: driver of %q: %w", d.Name, err)
	}
	driver, err := c.ioctl.driver(d)
	if err != nil {
		return Driver{}, fmt.Errorf("ethtool: driver of %q: %w", d.Name, gone(err))
	}
	return driver, nil
}

// Close closes the socket.
func (c *Client) Close() error { return c.ioctl.close() }

// gone makes ENODEV satisfy fs.ErrNotExist.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return err
}

// maxFeatures bounds the number of features believed. Linux 6.18 has 64 (include/linux/netdev_features.h, NETDEV_FEATURE_COUNT).
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
