package ethtool

import (
	"context"
	"testing"
	"unicode/utf8"
)

// The seeds in testdata/fuzz were recorded from Linux 6.18 on devices of several drivers.

// recorded answers the ioctls with given bytes, as far as there is room in the request.
type recorded struct{ info, strings, features, driver []byte }

func (r recorded) Ethtool(_ string, b []byte) error {
	copy(b[4:], map[uint8][]byte{cmdSetInfo: r.info, cmdStrings: r.strings, cmdFeatures: r.features, cmdDriver: r.driver}[b[0]])
	return nil
}

func (recorded) Close() error { return nil }

func FuzzIoctl(f *testing.F) {
	f.Fuzz(func(t *testing.T, info, strings, features, driver []byte) {
		c := NewClient(Config{Path: Ioctl, OpenIoctl: func() (IoctlSocket, error) { return recorded{info, strings, features, driver}, nil }})
		d := Device{Index: 1, Name: "fuzz"}
		list, err := c.Features(context.Background(), d)
		if err != nil && list != nil {
			t.Errorf("features with an error: %v", err)
		}
		check(t, list)
		if driver, err := c.Driver(context.Background(), d); err != nil || !utf8.ValidString(driver.Name) || len(driver.Name) > 3*32 {
			t.Errorf("%+v, %v", driver, err)
		}
	})
}

func FuzzNetlink(f *testing.F) {
	f.Fuzz(func(t *testing.T, strings, features []byte) {
		names, err := decodeNames(strings)
		if (err == nil) == (len(names) == 0) {
			t.Errorf("%d names, %v", len(names), err)
		}
		var b bitmaps
		if count, err := b.decode(features); err == nil && (count <= 0 || count > maxFeatures) {
			t.Errorf("%d features", count)
		} else if err == nil {
			check(t, b.features(names))
		}
	})
}

// check demands that names identify features.
func check(t *testing.T, list Features) {
	seen := make(map[string]bool)
	for _, g := range list {
		if g.Name == "" || seen[g.Name] || !utf8.ValidString(g.Name) {
			t.Errorf("name %q", g.Name)
		}
		seen[g.Name] = true
	}
	if len(list) > maxFeatures {
		t.Errorf("%d features", len(list))
	}
}
