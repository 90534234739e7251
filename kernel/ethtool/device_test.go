package ethtool_test

import (
	"encoding/json"
	"testing"

	"vxlan_exporter/kernel/ethtool"
	"vxlan_exporter/lab/labtest"
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
