package rtnl

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/fuzz/bound"
)

// newLink is an RTM_NEWLINK message with these attributes.
func newLink(t testing.TB, attrs func(ae *netlink.AttributeEncoder)) netlink.Message {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	attrs(ae)
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWLINK},
		Data:   append(make([]byte, unix.SizeofIfInfomsg), b...),
	}
}

func ofKind(t testing.TB, kind string) netlink.Message {
	return newLink(t, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, "flannel.1")
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, kind)
			return nil
		})
	})
}

func TestEventsThatMatter(t *testing.T) {
	vxlan, gone := ofKind(t, "vxlan"), ofKind(t, "vxlan")
	gone.Header.Type = unix.RTM_DELLINK
	cut := ofKind(t, "vxlan")
	cut.Data = cut.Data[:len(cut.Data)-6]
	for name, c := range map[string]struct {
		m    netlink.Message
		want bool
	}{
		"vxlan":             {vxlan, true},
		"vxlan that went":   {gone, false},
		"veth":              {ofKind(t, "veth"), false},
		"no kind: hardware": {newLink(t, func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, "eth0") }), false},
		"cut short":         {cut, true},
		"empty":             {netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}}, false},
	} {
		if got := concerns(c.m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzEvent: no notification of a device that the lister would call a VXLAN device is passed over. The seeds in
// testdata/fuzz were recorded from Linux 6.18.
func FuzzEvent(f *testing.F) {
	for _, kind := range []string{"vxlan", "veth", "", "vxlan\x00behind"} {
		f.Add(ofKind(f, kind).Data)
	}
	f.Add(make([]byte, unix.SizeofIfInfomsg+3))
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), 0xff, 0xff, 18, 0x80))
	f.Fuzz(func(t *testing.T, data []byte) {
		before, concerned := string(data), false
		m := netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: data}
		bound.Read(t, len(data), 2, 0, func() { concerned = concerns(m) })
		if string(data) != before {
			t.Error("the message was changed")
		}
		conn, err := Dial(t.Context(), func() (nl.Socket, error) { return oneLink{m}, nil })
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if links, err := conn.Links(); err == nil && len(links) > 0 && !concerned {
			t.Errorf("%+v is passed over", links)
		}
	})
}

// oneLink is a kernel whose list of links is one message.
type oneLink struct{ m netlink.Message }

func (oneLink) Send(m netlink.Message) (netlink.Message, error) { return m, nil }
func (oneLink) SetDeadline(time.Time) error                     { return nil }
func (oneLink) Close() error                                    { return nil }
func (o oneLink) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) { yield(o.m, nil) }
}

// brokenEvents fails at once.
type brokenEvents struct{ err error }

func (b brokenEvents) Receive() ([]netlink.Message, error) { return nil, b.err }
func (brokenEvents) SetReadDeadline(time.Time) error       { return nil }
func (brokenEvents) Close() error                          { return nil }

func TestEventSourceThatFails(t *testing.T) {
	w, err := Watch(t.Context(), func() (Events, error) { return brokenEvents{unix.EBADF}, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	select {
	case err := <-w.Failed():
		if !errors.Is(err, unix.EBADF) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
	if _, err := Watch(context.Background(), func() (Events, error) { return nil, unix.EPERM }); !errors.Is(err,
		unix.EPERM) {
		t.Errorf("error of the opener: %v", err)
	}
}
