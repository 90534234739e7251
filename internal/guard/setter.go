package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
)

// Setter turns the feature of a device on or off, by ioctl, which kernels of all ages have. It is not safe for concurrent use.
type Setter struct {
	socket ethtool.IoctlSocket
	client *ethtool.Client // on the same socket
}

// NewSetter opens the socket, in the network namespace of the calling thread.
func NewSetter() (*Setter, error) {
	socket, err := ethtool.OpenIoctl()
	if err != nil {
		return nil, fmt.Errorf("ethtool: open socket for ioctl: %w", err)
	}
	return newSetter(socket), nil
}

func newSetter(socket ethtool.IoctlSocket) *Setter {
	return &Setter{socket: socket, client: ethtool.NewClient(func() (ethtool.IoctlSocket, error) { return socket, nil })}
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

// set sets all transmit checksums that the device can switch, of which a VXLAN device has only this one (vxlan_setup,
// drivers/net/vxlan). The ioctl knows names only, so it is asked first whose name it is, and of what driver.
func (s *Setter) set(ctx context.Context, index int, name string, on bool) error {
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

// Close closes the socket.
func (s *Setter) Close() error { return s.socket.Close() }
