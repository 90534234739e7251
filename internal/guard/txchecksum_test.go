package guard

import (
	"errors"
	"io/fs"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
)

func TestSetTxChecksum(t *testing.T) {
	s := newSite(t)
	s.Run("ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b")
	a, b := s.vxlan("flannel.1"), s.vxlan("flannel.2")
	set := func(index int, name string, on bool) error {
		return s.client.SetTxChecksum(t.Context(), ethtool.Device{Index: index, Name: name}, on)
	}

	for _, on := range []bool{false, false, true, true} {
		s.must(set(a, "flannel.1", on), "set")
		if s.on(a, "flannel.1") != on || !s.on(b, "flannel.2") {
			t.Errorf("after setting it %v: %v", on, s.ethtoolSays())
		}
	}
	for _, gone := range []string{"nosuch", "", "flannel.1:1", "a-name-that-is-too-long-for-a-device"} {
		if err := set(a, gone, false); err == nil ||
			(!errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported)) {
			t.Errorf("%q: %v", gone, err)
		}
	}
	// The name has gone over to another device.
	veth, err := s.links.LinkByName("veth-a")
	s.must(err, "veth-a")
	for _, others := range []string{"veth-a", "flannel.2"} {
		if err := set(a, others, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, another device's name: %v", others, err)
		}
	}
	if !s.on(a, "flannel.1") || !s.on(b, "flannel.2") || !s.on(veth.Attrs().Index, "veth-a") {
		t.Error("changed in spite of the error")
	}
}
