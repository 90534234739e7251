package guard

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
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

func FuzzEvent(f *testing.F) {
	for _, kind := range []string{"vxlan", "veth", ""} {
		f.Add(ofKind(f, kind).Data)
	}
	f.Add(make([]byte, unix.SizeofIfInfomsg+3))
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), 0xff, 0xff, 18, 0x80))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := string(data)
		concerns(netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: data})
		if string(data) != before {
			t.Error("the message was changed")
		}
	})
}

// brokenEvents fails at once.
type brokenEvents struct{ err error }

func (b brokenEvents) Receive() ([]netlink.Message, error) { return nil, b.err }
func (brokenEvents) SetReadDeadline(time.Time) error       { return nil }
func (brokenEvents) Close() error                          { return nil }

func TestEventSourceThatFails(t *testing.T) {
	w, err := listen(t.Context(), func() (Events, error) { return brokenEvents{unix.EBADF}, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	select {
	case err := <-w.failed:
		if !errors.Is(err, unix.EBADF) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("nobody was told")
	}
	if _, err := listen(context.Background(), func() (Events, error) { return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) {
		t.Errorf("error of the opener: %v", err)
	}
}
