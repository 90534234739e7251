package rtnl_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// fake is a kernel that answers the n-th request with what answer returns.
type fake struct {
	answer   func(request int) iter.Seq2[netlink.Message, error]
	requests int
	seq      uint32
	deadline time.Time
	closed   bool
}

func (f *fake) Send(m netlink.Message) (netlink.Message, error) {
	f.requests++
	m.Header.Sequence = f.seq
	return m, nil
}

func (f *fake) ReceiveIter() iter.Seq2[netlink.Message, error] { return f.answer(f.requests) }

func (f *fake) SetDeadline(t time.Time) error {
	f.deadline = t
	return nil
}

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func (f *fake) open() (nl.Socket, error) { return f, nil }

func replies(msgs ...netlink.Message) iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		for _, m := range msgs {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func fails(err error) iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) { yield(netlink.Message{}, err) }
}

func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// vxlan is an RTM_NEWLINK message of a VXLAN device of VNI 7 with further attributes in IFLA_INFO_DATA.
func vxlan(index uint32, name, kind string, data ...byte) netlink.Message {
	b := binary.NativeEndian.AppendUint32(make([]byte, 4), index)
	b = append(b, make([]byte, 8)...)
	b = append(b, attr(unix.IFLA_IFNAME, append([]byte(name), 0)...)...)
	info := attr(unix.IFLA_INFO_KIND, append([]byte(kind), 0)...)
	info = append(info, attr(unix.IFLA_INFO_DATA, append(attr(1, 7, 0, 0, 0), data...)...)...)
	b = append(b, attr(unix.IFLA_LINKINFO, info...)...)
	return netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Multi}, Data: b}
}

func hostileLinks(t *testing.T, f *fake) ([]rtnl.Link, error) {
	t.Helper()
	c, err := rtnl.Dial(context.Background(), f.open)
	if err != nil {
		t.Fatal(err)
	}
	links, err := c.Links()
	if err := c.Close(); err != nil || !f.closed {
		t.Errorf("not closed: %v", err)
	}
	return links, err
}

func TestAbsentAttributesStayUnknown(t *testing.T) {
	links, err := hostileLinks(t,
		&fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies(vxlan(3, "vx", "vxlan")) }})
	if err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	l := links[0]
	if l.External != nil || l.UDPChecksum != nil || l.UDP6ZeroChecksumTx != nil || l.UDP6ZeroChecksumRx != nil ||
		l.LinkNetns != nil {
		t.Errorf("an attribute that was not sent is known: %+v", l)
	}
	if l.VNI != 7 || l.Port != 0 || l.Local.IsValid() || l.Remote.IsValid() || l.UnderlayIndex != 0 {
		t.Errorf("read %+v", l)
	}
}

// A flag that has no value, as IFLA_VXLAN_GBP (23) has none, is one that is set: it does not make the device malformed.
func TestFlagWithoutValue(t *testing.T) {
	m := vxlan(3, "vx", "vxlan", append(attr(18), attr(23)...)...)
	links, err := hostileLinks(t, &fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies(m) }})
	if err != nil || len(links) != 1 || links[0].UDPChecksum == nil || !*links[0].UDPChecksum {
		t.Errorf("read %+v, %v", links, err)
	}
}

func TestMalformedLinksCostThemselvesOnly(t *testing.T) {
	good := vxlan(3, "good", "vxlan")
	wrong := func(m netlink.Message, typ netlink.HeaderType) netlink.Message {
		m.Header.Type = typ
		return m
	}
	cut := func(n int) netlink.Message {
		m := vxlan(4, "bad", "vxlan")
		m.Data = m.Data[:n]
		return m
	}
	long := vxlan(4, "bad", "vxlan")
	binary.NativeEndian.PutUint16(long.Data[16:], 0xffff) // the first attribute claims more than there is
	stuck := vxlan(4, "bad", "vxlan")
	binary.NativeEndian.PutUint16(stuck.Data[16:], 0) // an attribute of no length would be read for ever
	nested := vxlan(4, "bad", "vxlan")
	binary.NativeEndian.PutUint16(nested.Data[16+8+4:], 0xff) // IFLA_INFO_KIND longer than the IFLA_LINKINFO it is in
	for name, c := range map[string]struct {
		m   netlink.Message
		bad bool // an error must be reported
	}{
		"no header":          {cut(0), true},
		"half a header":      {cut(15), true},
		"attribute too long": {long, true},
		"attribute of zero":  {stuck, true},
		"nested too long":    {nested, true},
		"short VNI":          {vxlan(4, "bad", "vxlan", attr(1, 7)...), true},
		"short port":         {vxlan(4, "bad", "vxlan", attr(15, 7)...), true},
		"short IPv4":         {vxlan(4, "bad", "vxlan", attr(4, 192, 0)...), true},
		"long IPv4":          {vxlan(4, "bad", "vxlan", attr(4, 192, 0, 2, 1, 0)...), true},
		"short IPv6":         {vxlan(4, "bad", "vxlan", attr(17, 1, 2, 3, 4)...), true},
		"no name":            {vxlan(4, "", "vxlan"), true},
		"no index":           {vxlan(0, "bad", "vxlan"), true},
		"negative index":     {vxlan(1<<31, "bad", "vxlan"), true},
		"another kind":       {vxlan(4, "bad", "vxlan6"), false},
		"a truncated kind":   {vxlan(4, "bad", "vxla"), false},
		"another type":       {wrong(vxlan(4, "bad", "vxlan"), unix.RTM_DELLINK), false},
	} {
		links, err := hostileLinks(t,
			&fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies(c.m, good) }})
		if len(links) != 1 || links[0].Name != "good" {
			t.Errorf("%s: read %+v", name, links)
		}
		if (err != nil) != c.bad {
			t.Errorf("%s: error %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswerToAnother: what is left of an earlier answer is no short list of devices, nor is what was sent to another
// socket.
func TestAnswerToAnother(t *testing.T) {
	for name, odd := range map[string]func(h *netlink.Header){
		"sequence": func(h *netlink.Header) { h.Sequence += 99 },
		"port":     func(h *netlink.Header) { h.PID = 4712 },
	} {
		m := vxlan(4, "b", "vxlan")
		odd(&m.Header)
		f := &fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies(vxlan(3, "good", "vxlan"), m) }}
		links, err := hostileLinks(t, f)
		if links != nil || err == nil || !strings.Contains(err.Error(), "the answer is to request") {
			t.Errorf("%s: %v, %v", name, links, err)
		}
		c, err := rtnl.Dial(t.Context(), f.open)
		if err != nil {
			t.Fatal(err)
		}
		f.answer = func(int) iter.Seq2[netlink.Message, error] { return replies(m) }
		if nic, err := c.NIC(4); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v", name, nic, err)
		}
		c.Close()
	}
}

func TestNamesAreKeptAsTheyAre(t *testing.T) {
	name := "<b>\x01\xff\x7f"
	links, err := hostileLinks(t,
		&fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies(vxlan(3, name, "vxlan")) }})
	if err != nil || len(links) != 1 || links[0].Name != name {
		t.Errorf("read %+v, %v", links, err)
	}
}

func TestLinkSentTwice(t *testing.T) {
	links, err := hostileLinks(t, &fake{answer: func(int) iter.Seq2[netlink.Message, error] {
		return replies(vxlan(5, "b", "vxlan"), vxlan(3, "a", "vxlan"), vxlan(5, "b", "vxlan"))
	}})
	if err != nil || len(links) != 2 || links[0].Index != 3 || links[1].Index != 5 {
		t.Errorf("read %+v, %v", links, err)
	}
}

func interrupted(m netlink.Message) netlink.Message {
	m.Header.Flags |= netlink.HeaderFlags(unix.NLM_F_DUMP_INTR)
	return m
}

func TestInterruptedDumpIsRepeated(t *testing.T) {
	f := &fake{answer: func(request int) iter.Seq2[netlink.Message, error] {
		if request < 3 {
			return replies(vxlan(3, "old", "vxlan"), interrupted(vxlan(4, "half", "vxlan")))
		}
		return replies(vxlan(3, "new", "vxlan"))
	}}
	links, err := hostileLinks(t, f)
	if err != nil || len(links) != 1 || links[0].Name != "new" || f.requests != 3 {
		t.Errorf("after %d requests read %+v, %v", f.requests, links, err)
	}
}

func TestDumpInterruptedForever(t *testing.T) {
	f := &fake{answer: func(int) iter.Seq2[netlink.Message,
		error] {
		return replies(interrupted(vxlan(3, "vx", "vxlan")))
	}}
	links, err := hostileLinks(t, f)
	if err == nil || links != nil || f.requests > 10 {
		t.Errorf("after %d requests read %+v, %v", f.requests, links, err)
	}
}

func TestEndlessDumpEnds(t *testing.T) {
	m := vxlan(3, "vx", "br")
	f := &fake{}
	f.answer = func(int) iter.Seq2[netlink.Message, error] {
		return func(yield func(netlink.Message, error) bool) {
			for yield(m, nil) {
			}
		}
	}
	links, err := hostileLinks(t, f)
	if err == nil || links != nil {
		t.Errorf("read %+v, %v", links, err)
	}
	if !f.deadline.Before(time.Now()) {
		t.Error("the socket would go on reading")
	}
}

func TestErrorsOfTheKernel(t *testing.T) {
	for _, want := range []error{unix.EPERM, unix.ENOBUFS, os.ErrDeadlineExceeded} {
		links, err := hostileLinks(t, &fake{answer: func(int) iter.Seq2[netlink.Message, error] { return fails(want) }})
		if !errors.Is(err, want) || links != nil {
			t.Errorf("%v: read %+v, %v", want, links, err)
		}
	}
	if _, err := rtnl.Dial(context.Background(), func() (nl.Socket, error) { return nil, unix.EMFILE }); !errors.Is(err,
		unix.EMFILE) {
		t.Errorf("open: %v", err)
	}
	f := &fake{answer: func(int) iter.Seq2[netlink.Message, error] { return replies() }}
	c, err := rtnl.Dial(context.Background(), f.open)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.NIC(1); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no answer at all: %v", err)
	}
}

// TestEndOfContextWakesReceive cancels a look that waits for a kernel that does not answer.
func TestEndOfContextWakesReceive(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	silent := func() (nl.Socket, error) {
		s, err := nl.Route()
		return mute{s}, err
	}
	c, err := rtnl.Dial(ctx, silent)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Links(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// mute is a socket whose requests get lost.
type mute struct{ nl.Socket }

func (mute) Send(m netlink.Message) (netlink.Message, error) { return m, nil }
