package ethtool

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"

	"vxlan_exporter/test/fuzz/bound"
)

// The seeds in testdata/fuzz were recorded from Linux 6.18 on devices of several drivers.

// recorded answers the ioctls with given bytes, as far as there is room in the request.
type recorded struct{ info, strings, features, driver []byte }

func (r recorded) Ethtool(_ string, b []byte) error {
	copy(b[4:], map[uint8][]byte{cmdSetInfo: r.info, cmdStrings: r.strings, cmdFeatures: r.features, cmdDriver: r.driver}[b[0]])
	return nil
}

func (recorded) Index(string) (int, error) { return 1, nil }

func (recorded) Close() error { return nil }

func FuzzIoctl(f *testing.F) {
	f.Fuzz(func(t *testing.T, info, strings, features, driver []byte) {
		var c *Client
		d := Device{Index: 1, Name: "fuzz"}
		var list Features
		var err error
		// The buffers are as large as the number of features that is claimed, which is bounded, needs them.
		bound.Read(t, len(strings)+len(features), 8, 0, func() {
			// A client remembers the names.
			c = NewClient(Config{Path: Ioctl, OpenIoctl: func() (IoctlSocket, error) { return recorded{info, strings, features, driver}, nil }})
			list, err = c.Features(context.Background(), d)
		})
		if err != nil && list != nil {
			t.Errorf("features with an error: %v", err)
		}
		check(t, list)
		said(t, list, strings)
		answer, err := c.Driver(context.Background(), d)
		if err != nil {
			t.Error(err)
		}
		for _, s := range []string{answer.Name, answer.Version, answer.FirmwareVersion, answer.Bus} {
			if !utf8.ValidString(s) || len(s) > 3*32 || whole(s) && !bytes.Contains(driver, []byte(s)) {
				t.Errorf("%q of %q", s, driver)
			}
		}
	})
}

// whole reports whether nothing in s was replaced.
func whole(s string) bool { return !strings.ContainsRune(s, utf8.RuneError) }

func FuzzNetlink(f *testing.F) {
	f.Fuzz(func(t *testing.T, strings, features []byte) {
		bound.Read(t, len(strings)+len(features), 32, 0, func() {
			names, err := decodeNames(strings)
			if (err == nil) == (len(names) == 0) {
				t.Errorf("%d names, %v", len(names), err)
			}
			var b bitmaps
			if count, err := b.decode(features); err == nil && (count <= 0 || count > maxFeatures) {
				t.Errorf("%d features", count)
			} else if err == nil {
				list := b.features(names)
				check(t, list)
				said(t, list, strings)
			}
		})
	})
}

// spoken is a generic netlink socket that answers every question with given bytes.
type spoken []byte

func (spoken) GetFamily(string) (genetlink.Family, error) { return genetlink.Family{ID: 20}, nil }

func (s spoken) Execute(m genetlink.Message, _ uint16, _ netlink.HeaderFlags) ([]genetlink.Message, error) {
	if m.Header.Command == msgPrivateFlags {
		m.Header.Command = msgPrivateFlagsReply
	}
	return []genetlink.Message{{Header: m.Header, Data: s}}, nil
}

func (spoken) SetDeadline(time.Time) error { return nil }
func (spoken) Close() error                { return nil }

// FuzzState reads link state and private flags.
func FuzzState(f *testing.F) {
	f.Add([]byte{5, 0, 2, 0, 1, 0, 0, 0}) // ETHTOOL_A_LINKSTATE_LINK 1
	bit := []byte{14, 0, 2, 0, 'r', 'x', '_', 'c', 's', 'u', 'm', '_', 'x', 0, 0, 0, 4, 0, 3, 0}
	for _, typ := range []byte{attrBit, attrBitsetBits, attrFlags} {
		bit = append([]byte{byte(4 + len(bit)), 0, typ, 0x80}, bit...)
	}
	f.Add(bit)
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewClient(Config{OpenNetlink: func() (NetlinkConn, error) { return spoken(data), nil }})
		d := Device{Index: 1, Name: "fuzz"}
		var up bool
		var upErr, flagsErr error
		var flags map[string]bool
		bound.Read(t, len(data), 32, 0, func() {
			up, upErr = c.LinkUp(context.Background(), d)
			flags, flagsErr = c.ChecksumFlags(context.Background(), d)
		})
		if up && upErr != nil || flags != nil && flagsErr != nil || flags == nil && flagsErr == nil {
			t.Errorf("link %v, %v; flags %v, %v", up, upErr, flags, flagsErr)
		}
		if len(flags) > maxFeatures {
			t.Errorf("%d flags", len(flags))
		}
		for name := range flags {
			if !utf8.ValidString(name) || whole(name) && !bytes.Contains(data, []byte(name)) {
				t.Errorf("nobody said %q", name)
			}
		}
	})
}

// check demands that names identify features, and that what a feature says of itself agrees.
func check(t *testing.T, list Features) {
	t.Helper()
	seen := make(map[string]bool)
	for _, g := range list {
		if g.Name == "" || seen[g.Name] || !utf8.ValidString(g.Name) {
			t.Errorf("name %q", g.Name)
		}
		if !g.Available && !g.Fixed {
			t.Errorf("%+v: cannot be changed, and is not fixed", g)
		}
		seen[g.Name] = true
	}
	if len(list) > maxFeatures {
		t.Errorf("%d features", len(list))
	}
}

// said demands that every name stands in the answer that the names were read from.
func said(t *testing.T, list Features, answer []byte) {
	t.Helper()
	for _, g := range list {
		if whole(g.Name) && !bytes.Contains(answer, []byte(g.Name)) {
			t.Errorf("nobody said %q", g.Name)
		}
	}
}
