package ethtool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/ethtool"
	"golang.org/x/sys/unix"
)

// LinkClient is what is needed of package github.com/mdlayher/ethtool; its Client is one.
type LinkClient interface {
	LinkState(ifi ethtool.Interface) (*ethtool.LinkState, error)
	PrivateFlags(ifi ethtool.Interface) (*ethtool.PrivateFlags, error)
	Close() error
}

// OpenLinks opens a socket to the generic netlink family "ethtool" (5.6) in the network namespace of the calling
// thread. The error satisfies errors.ErrUnsupported on kernels before that, of which those before 4.20 do not even know
// the options of the socket.
func OpenLinks() (LinkClient, error) {
	c, err := ethtool.New()
	if err == nil {
		return c, nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("no family %q (kernel before 5.6): %w (%w)", unix.ETHTOOL_GENL_NAME, errors.ErrUnsupported, err)
	}
	return nil, err
}

// Link is what the generic netlink family "ethtool" says of a NIC.
type Link struct {
	Up            bool            // the driver detects a link; false also of a driver that does not say
	ChecksumFlags map[string]bool // the driver's private flags whose names speak of checksums (5.7)
}

// LinkReader reads link states and private flags. The library's calls take no deadline, and panic on answers that they
// do not expect: they are made in a goroutine, of which there is one at most. It is not safe for concurrent use.
type LinkReader struct {
	open func() (LinkClient, error)
	busy atomic.Bool // the kernel has not answered the last observation's question yet
}

// NewLinkReader returns a LinkReader; nil opens by OpenLinks, in the network namespace of the process.
func NewLinkReader(open func() (LinkClient, error)) *LinkReader {
	if open == nil {
		open = OpenLinks
	}
	return &LinkReader{open: open}
}

var errBusy = errors.New("the kernel has not answered an earlier request")

// defaultTimeout bounds a call whose context has no deadline.
const defaultTimeout = 10 * time.Second

// Read asks about each device and returns the answers that came before ctx ended, by index. It needs no capability. A
// device that is gone, or a kernel without the family, is no error and not in the result; one whose driver has no
// answers is there with empty ones.
func (r *LinkReader) Read(ctx context.Context, devices []Device) (map[int]Link, error) {
	links := make(map[int]Link)
	if !r.busy.CompareAndSwap(false, true) {
		return links, fmt.Errorf("ethtool: link state: %w", errBusy)
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	answers := make(chan linkAnswer, len(devices)+1)
	go func() {
		err := r.ask(ctx, devices, answers)
		r.busy.Store(false)
		answers <- linkAnswer{last: true, err: err}
	}()
	for {
		select {
		case a := <-answers:
			if a.err != nil {
				return links, fmt.Errorf("ethtool: link state: %w", a.err)
			}
			if a.last {
				return links, nil
			}
			links[a.index] = a.link
		case <-ctx.Done():
			return links, fmt.Errorf("ethtool: link state: %w", ctx.Err())
		}
	}
}

// linkAnswer is what is known of one device; the last one is of none.
type linkAnswer struct {
	index int
	link  Link
	last  bool
	err   error
}

// ask gives every answer but the last, and returns why there are no more: nil when all have been asked, or the kernel
// has no answers.
func (r *LinkReader) ask(ctx context.Context, devices []Device, answers chan<- linkAnswer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	client, err := r.open()
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	end := sync.OnceFunc(func() { _ = client.Close() })
	defer end()
	context.AfterFunc(ctx, end) // a call that waits for an answer ends then
	for _, d := range devices {
		link, err := askOne(client, d)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return err
		}
		answers <- linkAnswer{index: d.Index, link: link}
	}
	return nil
}

// askOne asks by index and name: the kernel refuses with ENODEV when they are not of the same device.
func askOne(c LinkClient, d Device) (link Link, err error) {
	ifi := ethtool.Interface{Index: d.Index, Name: d.Name}
	state, err := c.LinkState(ifi)
	if err == nil {
		link.Up = state.Link
	}
	var flags *ethtool.PrivateFlags
	if noAnswer(err) {
		flags, err = c.PrivateFlags(ifi)
	}
	if err == nil {
		link.ChecksumFlags = checksumFlags(flags.Flags)
	}
	if !noAnswer(err) {
		return link, fmt.Errorf("%q: %w", d.Name, err)
	}
	return link, nil
}

// noAnswer reports whether there is no error but that of a driver, or a kernel, that has no answer.
func noAnswer(err error) bool { return err == nil || errors.Is(err, unix.EOPNOTSUPP) }

func checksumFlags(all map[string]bool) map[string]bool {
	flags := make(map[string]bool)
	for name, set := range all {
		if lower := strings.ToLower(name); strings.Contains(lower, "csum") || strings.Contains(lower, "checksum") {
			flags[strings.ToValidUTF8(name, "\uFFFD")] = set
		}
	}
	return flags
}
