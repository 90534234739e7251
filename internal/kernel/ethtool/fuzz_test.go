package ethtool

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/fuzz/bound"
)

// The seeds in testdata/fuzz were recorded from Linux 6.18 on devices of several drivers.

// recorded answers the ioctls with given bytes, as far as there is room in the request.
type recorded struct{ info, strings, features, driver []byte }

func (r recorded) Ethtool(_ string, b []byte) error {
	copy(b[4:], map[uint8][]byte{
		unix.ETHTOOL_GSSET_INFO: r.info, unix.ETHTOOL_GSTRINGS: r.strings, unix.ETHTOOL_GFEATURES: r.features,
		unix.ETHTOOL_GDRVINFO: r.driver,
	}[b[0]])
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
			c = NewClient(func() (IoctlSocket, error) { return recorded{info, strings, features, driver}, nil })
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
