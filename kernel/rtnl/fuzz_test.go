package rtnl

import (
	"testing"
)

// The seeds in testdata/fuzz were recorded from Linux 6.18: messages of VXLAN devices of every kind, of other devices, and of
// their addresses.

func FuzzLink(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		link, ok, err := parseLink(data)
		if ok && err == nil && (link.Index <= 0 || link.Name == "") {
			t.Errorf("a link without identity: %+v", link)
		}
		if link.Local.IsValid() && link.Local.Zone() != "" {
			t.Errorf("local address %v", link.Local)
		}
		link.Underlay()
		nic, nicErr := parseNIC(data)
		// What is a link to one is a link to the other, under the same name.
		if ok && err == nil && nicErr == nil && (nic.Index != link.Index || nic.Name != link.Name || nic.Up != link.Up || nic.MTU != link.MTU) {
			t.Errorf("link %+v, NIC %+v", link, nic)
		}
	})
}

func FuzzAddr(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		a, _, err := parseAddr(data)
		if err == nil && a.IsValid() && a.Is4() == (data[0] == 10) {
			t.Errorf("address %v of family %d", a, data[0])
		}
	})
}
