package ethtool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	mdlayher "github.com/mdlayher/ethtool"
	"golang.org/x/sys/unix"
)

// State reads what only generic netlink has a ready client for. Both questions need no capability. Their errors satisfy
// errors.ErrUnsupported where the driver has no answer, and fs.ErrNotExist where the device is gone.
type State interface {
	// LinkUp reports whether the driver detects a link (ETHTOOL_MSG_LINKSTATE_GET).
	LinkUp(d Device) (bool, error)
	// ChecksumFlags are the driver's private flags whose names speak of checksums (ETHTOOL_MSG_PRIVFLAGS_GET).
	ChecksumFlags(d Device) (map[string]bool, error)
	Close() error
}

// StateOpener opens a State.
type StateOpener func() (State, error)

// OpenState opens a State in the network namespace of the calling thread. Where the kernel lacks the family "ethtool" (before
// 5.6) or the socket options that the client insists on (before 4.20), the error satisfies errors.ErrUnsupported.
func OpenState() (State, error) {
	c, err := mdlayher.New()
	switch {
	case err == nil:
		return state{c}, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EPROTONOSUPPORT):
		return nil, fmt.Errorf("ethtool: generic netlink: %w: %w", err, errors.ErrUnsupported)
	default:
		return nil, fmt.Errorf("ethtool: generic netlink: %w", err)
	}
}

type state struct{ c *mdlayher.Client }

func (s state) Close() error { return s.c.Close() }

func (s state) LinkUp(d Device) (bool, error) {
	l, err := s.c.LinkState(mdlayher.Interface{Index: d.Index})
	if err != nil {
		return false, fmt.Errorf("ethtool: link state of %q: %w", d.Name, answer(err))
	}
	return l.Link, nil
}

func (s state) ChecksumFlags(d Device) (map[string]bool, error) {
	p, err := s.c.PrivateFlags(mdlayher.Interface{Index: d.Index})
	if err != nil {
		return nil, fmt.Errorf("ethtool: private flags of %q: %w", d.Name, answer(err))
	}
	return checksumFlags(p.Flags), nil
}

func checksumFlags(flags map[string]bool) map[string]bool {
	flags = maps.Clone(flags)
	maps.DeleteFunc(flags, func(name string, _ bool) bool {
		name = strings.ToLower(name)
		return !strings.Contains(name, "csum") && !strings.Contains(name, "checksum")
	})
	return flags
}

// answer undoes what the client does to errors: to it, an unsupported question and a missing device are both fs.ErrNotExist.
func answer(err error) error {
	var e *mdlayher.Error
	if !errors.As(err, &e) {
		return err
	}
	return gone(e.Err)
}
