package guard

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab/labtest"
)

func TestSetterBothWays(t *testing.T) {
	s := newSite(t)
	s.Run("ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b")
	a, b := s.vxlan("flannel.1"), s.vxlan("flannel.2")
	for way, open := range map[string]func() (*Setter, error){"netlink": NewSetter, "ioctl": newIoctlSetter} {
		var setter *Setter
		s.Do(func() (err error) { setter, err = open(); return err })
		defer setter.Close()
		if (setter.genl == nil) != (way == "ioctl" || !labtest.EthtoolNetlink()) {
			t.Fatalf("%s: wrong way", way)
		}
		set := func(index int, name string, on bool) error { return setter.Set(t.Context(), index, name, on) }

		for _, on := range []bool{false, false, true, true} {
			s.must(set(a, "flannel.1", on), way)
			if s.on(a, "flannel.1") != on || !s.on(b, "flannel.2") {
				t.Errorf("%s: after setting it %v: %v", way, on, s.ethtoolSays())
			}
		}
		for _, gone := range []string{"nosuch", "", "flannel.1:1", "a-name-that-is-too-long-for-a-device"} {
			if err := set(a, gone, false); err == nil || (!errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ERANGE) && !errors.Is(err, unix.EINVAL)) {
				t.Errorf("%s: %q: %v", way, gone, err)
			}
		}
		// The name has gone over to another device.
		veth, err := s.links.LinkByName("veth-a")
		s.must(err, "veth-a")
		for _, others := range []string{"veth-a", "flannel.2"} {
			if err := set(a, others, false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s, another device's name: %v", way, others, err)
			}
		}
		if !s.on(a, "flannel.1") || !s.on(b, "flannel.2") || !s.on(veth.Attrs().Index, "veth-a") {
			t.Errorf("%s: changed in spite of the error", way)
		}
	}
}
