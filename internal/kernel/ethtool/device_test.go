package ethtool_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab/labtest"
)

// devices lists the devices of a namespace, as ip(8) sees them.
func devices(t testing.TB, ns *labtest.NS) []ethtool.Device {
	t.Helper()
	var links []struct {
		Index int    `json:"ifindex"`
		Name  string `json:"ifname"`
	}
	if err := json.Unmarshal([]byte(ns.Run("ip", "-j", "link")), &links); err != nil {
		t.Fatal(err)
	}
	var list []ethtool.Device
	for _, l := range links {
		list = append(list, ethtool.Device{Index: l.Index, Name: l.Name})
	}
	return list
}

// device finds one of them.
func device(t testing.TB, ns *labtest.NS, name string) ethtool.Device {
	t.Helper()
	for _, d := range devices(t, ns) {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no device %q in %s", name, ns.Name)
	return ethtool.Device{}
}

// What is read by a name that another device has taken over must not be told of the one that had it.
func TestNameTakenOver(t *testing.T) {
	ns := zoo(t)
	before := device(t, ns, "vx0")
	ns.Run("ip", "link", "set", "vx0", "name", "renamed")
	ns.Run("ip", "link", "set", "vx1", "name", "vx0")
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		defer c.Close()
		if f, err := c.Features(context.Background(), before); !errors.Is(err, fs.ErrNotExist) || f != nil {
			t.Errorf("%d features, %v", len(f), err)
		}
		if d, err := c.Driver(context.Background(), before); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("driver %v, %v", d, err)
		}
		now := ethtool.Device{Index: before.Index, Name: "renamed"}
		if f, err := c.Features(context.Background(), now); err != nil || len(f) == 0 {
			t.Errorf("by its own name: %v", err)
		}
		return nil
	})
}
