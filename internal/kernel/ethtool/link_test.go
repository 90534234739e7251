package ethtool_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdlayher "github.com/mdlayher/ethtool"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab/labtest"
)

// openLinks opens the socket in a namespace: a LinkReader has a thread of its own.
func openLinks(ns *labtest.NS) func() (ethtool.LinkClient, error) {
	return func() (c ethtool.LinkClient, err error) {
		ns.Do(func() error {
			c, err = ethtool.OpenLinks()
			return nil
		})
		return c, err
	}
}

func TestLinks(t *testing.T) {
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		labtest.Lacks(t, err.Error())
	} else {
		_ = f.Close()
	}
	ns := zoo(t)
	v0, tap := device(t, ns, "v0"), device(t, ns, "tap0")
	r := ethtool.NewLinkReader(openLinks(ns))
	for _, up := range []bool{true, false} {
		if !up {
			ns.Run("ip", "link", "set", "v1", "down")
		}
		links, err := r.Read(t.Context(), []ethtool.Device{
			v0,
			{Index: 1 << 20, Name: "gone"},
			{Index: v0.Index, Name: "v1"},
			tap,
		})
		if err != nil || links[v0.Index].Up != (up && labtest.EthtoolNetlink()) {
			t.Errorf("up %v: %+v, %v", up, links, err)
		}
		if _, ok := links[tap.Index]; ok != labtest.EthtoolNetlink() || len(links) > 2 {
			t.Errorf("two devices, and two that are gone: %+v", links)
		}
	}
}

// family is a client of a family "ethtool" on which every device is up and has the given flags, unless it fails.
type family struct {
	flags  map[string]bool
	err    error
	fails  func() // instead of an answer
	closed chan struct{}
}

func (f *family) LinkState(mdlayher.Interface) (*mdlayher.LinkState, error) {
	if f.fails != nil {
		f.fails()
	}
	return &mdlayher.LinkState{Link: true}, f.err
}

func (f *family) PrivateFlags(mdlayher.Interface) (*mdlayher.PrivateFlags, error) {
	return &mdlayher.PrivateFlags{Flags: f.flags}, f.err
}

func (f *family) Close() error {
	close(f.closed)
	return nil
}

func TestLinkFlags(t *testing.T) {
	f := &family{
		flags:  map[string]bool{"rx_csum_complete": true, "legacy-rx": true, "tx-CheckSum\xff": false},
		closed: make(chan struct{}),
	}
	r := ethtool.NewLinkReader(func() (ethtool.LinkClient, error) { return f, nil })
	links, err := r.Read(t.Context(), []ethtool.Device{d})
	if want := map[string]bool{"rx_csum_complete": true, "tx-CheckSum\uFFFD": false}; err != nil ||
		!maps.Equal(links[d.Index].ChecksumFlags, want) {
		t.Errorf("%+v, %v", links, err)
	}
	<-f.closed
}

func TestLinkErrors(t *testing.T) {
	kernel := func(err error) error { return &mdlayher.Error{Err: &netlink.OpError{Op: "receive", Err: err}} }
	for _, tt := range []struct {
		name  string
		open  error
		err   error
		fails func()
		want  string // in the error
	}{
		{"no family", errors.ErrUnsupported, nil, nil, ""},
		{"no socket", unix.EMFILE, nil, nil, "too many open files"},
		{"no answer of the driver", nil, kernel(unix.EOPNOTSUPP), nil, ""},
		{"the device is gone", nil, kernel(unix.ENODEV), nil, ""},
		{
			"failed", nil, kernel(os.NewSyscallError("recvmsg", unix.ENOBUFS)), nil,
			`"vx0": netlink receive: recvmsg: no buffer space`,
		},
		{
			"an answer that the library does not expect", nil, nil, func() { panic("unexpected number of messages") },
			"unexpected number",
		},
	} {
		f := &family{err: tt.err, fails: tt.fails, closed: make(chan struct{})}
		r := ethtool.NewLinkReader(func() (ethtool.LinkClient, error) { return f, tt.open })
		for range 2 { // and the next observation may try again
			f.closed = make(chan struct{})
			links, err := r.Read(t.Context(), []ethtool.Device{d})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || links[d.Index].Up {
				t.Errorf("%s: %+v, %v", tt.name, links, err)
			}
			if tt.open == nil {
				<-f.closed
			}
		}
	}
}

// A kernel that does not answer costs the time of one observation, and no more than one goroutine: closing the client
// ends it, or the answer that comes at last.
func TestLinkDeadline(t *testing.T) {
	for _, hangs := range []string{"opening", "asking"} {
		synctest.Test(t, func(t *testing.T) {
			f := &family{closed: make(chan struct{})}
			answer := make(chan struct{})
			open := func() (ethtool.LinkClient, error) {
				if hangs == "opening" {
					<-answer
				}
				return f, nil
			}
			f.fails = func() { <-f.closed }
			r := ethtool.NewLinkReader(open)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if _, err := r.Read(ctx, []ethtool.Device{d}); !errors.Is(err, context.DeadlineExceeded) ||
				time.Since(start) != time.Second {
				t.Errorf("%s: %v after %s", hangs, err, time.Since(start))
			}
			synctest.Wait()
			if hangs == "opening" {
				if _, err := r.Read(t.Context(), []ethtool.Device{d}); err == nil ||
					!strings.Contains(err.Error(), "earlier request") {
					t.Errorf("asked again while the kernel does not answer: %v", err)
				}
				close(answer)
				synctest.Wait()
			}
			<-f.closed
			f.fails, f.closed = nil, make(chan struct{})
			if links, err := r.Read(t.Context(), []ethtool.Device{d}); err != nil || !links[d.Index].Up {
				t.Errorf("%s: afterwards %+v, %v", hangs, links, err)
			}
		})
	}
}
