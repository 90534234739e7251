package ethtool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Path selects the kernel interface that features are read by.
type Path string

// The paths.
const (
	Auto    Path = "auto"  // the ioctl, and generic netlink where the ioctl is refused
	Ioctl   Path = "ioctl" // SIOCETHTOOL only
	Netlink Path = "genl"  // the generic netlink family "ethtool" only
)

// Device names a network device both ways: generic netlink asks by index, the ioctl by name. A device that does not have the name any
// more is gone, also when another has it; Index 0 stands for whichever device has the name.
type Device struct {
	Index int
	Name  string
}

// Config says how a Client reaches the kernel. The zero value reads the network namespace of the calling thread, by Auto.
type Config struct {
	Path        Path
	OpenIoctl   func() (IoctlSocket, error) // nil: OpenIoctl
	OpenNetlink func() (NetlinkConn, error) // nil: OpenNetlink
}

// Client reads features and drivers. It opens a socket of each kind when it first needs one; Close closes them and keeps what was
// learned about the kernel, and the Client can then be used again. It is not safe for concurrent use.
type Client struct {
	path  Path
	ioctl ioctlReader
	genl  genlReader
}

// NewClient returns a Client. It opens nothing yet.
func NewClient(cfg Config) *Client {
	c := &Client{path: cfg.Path, ioctl: ioctlReader{open: cfg.OpenIoctl}, genl: genlReader{open: cfg.OpenNetlink}}
	if c.path == "" {
		c.path = Auto
	}
	if c.ioctl.open == nil {
		c.ioctl.open = OpenIoctl
	}
	if c.genl.open == nil {
		c.genl.open = OpenNetlink
	}
	return c
}

// Features reads the offload features of a device. It needs no capability. The error of a device that is gone satisfies
// fs.ErrNotExist, the error of a kernel that has no such interface errors.ErrUnsupported.
func (c *Client) Features(ctx context.Context, d Device) (Features, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ethtool: features of %q: %w", d.Name, err)
	}
	var f Features
	var err error
	switch c.path {
	case Ioctl:
		f, err = c.ioctl.features(d)
	case Netlink:
		f, err = c.genl.features(ctx, d.Index)
	case Auto:
		f, err = c.ioctl.features(d)
		if refused(err) && d.Index > 0 {
			var second error
			switch f, second = c.genl.features(ctx, d.Index); {
			case second == nil:
			case refused(second):
				second = fmt.Errorf("%w; by generic netlink: %w", err, second)
			default: // there is a way to ask, and it failed: that the other is refused is not the reason
				second = fmt.Errorf("%w (by generic netlink; by ioctl: %s)", second, err) //nolint:errorlint // hidden on purpose
			}
			err = second
		}
	default:
		err = fmt.Errorf("no such path: %q", c.path)
	}
	if err != nil {
		return nil, fmt.Errorf("ethtool: features of %q: %w", d.Name, gone(err))
	}
	return f, nil
}

// Driver reads a device's driver, by ioctl: generic netlink has no such request. It needs no capability.
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

// Close closes the sockets that are open.
func (c *Client) Close() error { return errors.Join(c.ioctl.close(), c.genl.close()) }

// refused tells an interface that cannot be used here (absent, forbidden by a sandbox, unable to say the name) from a device
// that cannot be read.
func refused(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTTY) ||
		errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}

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
