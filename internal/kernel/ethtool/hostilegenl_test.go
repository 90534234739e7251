package ethtool_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/ethtool"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// genl is a kernel's generic netlink family "ethtool". Every feature is active and wanted.
type genl struct {
	names     []string
	familyErr error
	err       error
	features  func() []genetlink.Message // replaces the answer to FEATURES_GET
	calls     int
	closed    int
	deadline  time.Time
}

func (g *genl) GetFamily(string) (genetlink.Family, error) {
	return genetlink.Family{ID: 20}, g.familyErr
}

func (g *genl) Execute(m genetlink.Message, _ uint16, _ netlink.HeaderFlags) ([]genetlink.Message, error) {
	g.calls++
	if g.err != nil {
		return nil, g.err
	}
	if m.Header.Command == 11 && g.features != nil {
		return g.features(), nil
	}
	return []genetlink.Message{{Header: m.Header, Data: g.reply(m.Header.Command)}}, nil
}

func (g *genl) reply(cmd uint8) []byte {
	if cmd == 11 {
		return featuresReply(len(g.names), (len(g.names)+31)/32, 2, 3, 4, 5)
	}
	return encode(func(ae *netlink.AttributeEncoder) {
		nest(ae, 2, func(ae *netlink.AttributeEncoder) {
			nest(ae, 1, func(ae *netlink.AttributeEncoder) {
				ae.Uint32(1, 4)
				ae.Uint32(2, uint32(len(g.names)))
				nest(ae, 3, func(ae *netlink.AttributeEncoder) {
					for i, name := range g.names {
						nest(ae, 1, func(ae *netlink.AttributeEncoder) {
							ae.Uint32(1, uint32(i))
							ae.String(2, name)
						})
					}
				})
			})
		})
	})
}

func featuresReply(size, words int, attrs ...uint16) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		for _, typ := range attrs {
			nest(ae, typ, func(ae *netlink.AttributeEncoder) {
				ae.Uint32(2, uint32(size))
				ae.Bytes(4, []byte(strings.Repeat("\xff", 4*words)))
			})
		}
	})
}

func nest(ae *netlink.AttributeEncoder, typ uint16, f func(*netlink.AttributeEncoder)) {
	ae.Nested(typ, func(ae *netlink.AttributeEncoder) error {
		f(ae)
		return nil
	})
}

func encode(f func(*netlink.AttributeEncoder)) []byte {
	ae := netlink.NewAttributeEncoder()
	f(ae)
	b, err := ae.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

func (g *genl) SetDeadline(t time.Time) error {
	g.deadline = t
	return nil
}

func (g *genl) Close() error {
	g.closed++
	return nil
}

func TestHostileNetlink(t *testing.T) {
	answer := func(cmd uint8, data ...[]byte) func() []genetlink.Message {
		return func() (msgs []genetlink.Message) {
			for _, b := range data {
				msgs = append(msgs, genetlink.Message{Header: genetlink.Header{Command: cmd}, Data: b})
			}
			return msgs
		}
	}
	good := featuresReply(40, 2, 2, 3, 4, 5)
	for name, features := range map[string]func() []genetlink.Message{
		"no reply":              answer(11),
		"two replies":           answer(11, good, good),
		"another command":       answer(12, good),
		"empty":                 answer(11, nil),
		"truncated":             answer(11, good[:len(good)-3]),
		"a bitmap is missing":   answer(11, featuresReply(40, 2, 2, 3, 5)),
		"too few words":         answer(11, featuresReply(40, 1, 2, 3, 4, 5)),
		"too many words":        answer(11, featuresReply(40, 3, 2, 3, 4, 5)),
		"very many features":    answer(11, featuresReply(1<<30, 2, 2, 3, 4, 5)),
		"no features":           answer(11, featuresReply(0, 0, 2, 3, 4, 5)),
		"bitmaps that disagree": answer(11, append(featuresReply(40, 2, 2, 3, 4), featuresReply(70, 3, 5)...)),
		"another count always":  answer(11, featuresReply(41, 2, 2, 3, 4, 5)),
	} {
		f, err := client(ethtool.Netlink, nil, &genl{names: names(40), features: features}).Features(context.Background(), d)
		if err == nil || f != nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	for name, g := range map[string]*genl{
		"no names":        {},
		"very many names": {names: names(1025)},
	} {
		if f, err := client(ethtool.Netlink, nil, g).Features(context.Background(), d); err == nil || f != nil {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	c := ethtool.NewClient(ethtool.Config{Path: ethtool.Netlink, OpenNetlink: func() (ethtool.NetlinkConn, error) { return nil, unix.EMFILE }})
	if _, err := c.Features(context.Background(), d); !errors.Is(err, unix.EMFILE) {
		t.Errorf("open: %v", err)
	}
}

// TestNetlinkRecovers fails one request: its socket is not used again, and the next request gets a new one.
func TestNetlinkRecovers(t *testing.T) {
	g := &genl{names: names(40), err: unix.ENOBUFS}
	c := client(ethtool.Netlink, nil, g)
	if _, err := c.Features(context.Background(), d); !errors.Is(err, unix.ENOBUFS) || g.closed != 1 {
		t.Errorf("%v, closed %d", err, g.closed)
	}
	g.err = nil
	if f, err := c.Features(context.Background(), d); err != nil || len(f) != 40 {
		t.Errorf("%d features, %v", len(f), err)
	}
}

func TestContext(t *testing.T) {
	g := &genl{names: names(40)}
	c := client(ethtool.Netlink, nil, g)
	deadline := time.Now().Add(time.Minute)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	if _, err := c.Features(ctx, d); err != nil || !g.deadline.Equal(deadline) {
		t.Errorf("deadline %v, %v", g.deadline, err)
	}
	cancel()
	for _, path := range []ethtool.Path{ethtool.Ioctl, ethtool.Netlink} {
		c := client(path, &oldKernel{names: names(3)}, g)
		if _, err := c.Features(ctx, d); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := c.Driver(ctx, d); !errors.Is(err, context.Canceled) {
			t.Errorf("driver: %v", err)
		}
	}
}
