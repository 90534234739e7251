package ethtool_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab/labtest"
)

// zoo makes devices of many drivers, some with features switched.
func zoo(t testing.TB) *labtest.NS {
	ns := labtest.New(t, "ethtool")
	ns.RunInput(`link add v0 type veth peer name v1
link add br0 type bridge
link add vx0 type vxlan id 1 dstport 8472 dev v0
link add vx1 type vxlan id 2 dstport 8472 noudpcsum
link add ext type vxlan external dstport 4790
link add <b>"x" type vxlan id 8 dstport 8473
link set v0 up
link set v1 up
`, "ip", "-batch", "-")
	ns.AddTun("tun0", "tun")
	ns.AddTun("tap0", "tap")
	ns.Run("ethtool", "-K", "vx1", "tx-checksum-ip-generic", "off")
	ns.Run("ethtool", "-K", "v0", "tx", "off", "gro", "on")
	return ns
}

// older are the names that ethtool(8) prints for single features in place of the kernel's (its struct off_flag_def).
func older(name string) string {
	names := map[string]string{
		"rx-checksum": "rx-checksumming", "tx-generic-segmentation": "generic-segmentation-offload",
		"rx-gro": "generic-receive-offload",
		"rx-lro": "large-receive-offload", "rx-vlan-hw-parse": "rx-vlan-offload", "tx-vlan-hw-insert": "tx-vlan-offload",
		"rx-ntuple-filter": "ntuple-filters", "rx-hashing": "receive-hashing",
	}
	if o, ok := names[name]; ok {
		return o
	}
	return name
}

// feature is what ethtool(8) says of one.
type feature struct{ Active, Requested, Fixed bool }

// says asks ethtool(8), which has JSON only where it can use generic netlink, and else indented lines like
// "tx-lockless: on [fixed]".
func says(t *testing.T, ns *labtest.NS, device string) map[string]feature {
	t.Helper()
	all := map[string]feature{}
	if !labtest.EthtoolNetlink() {
		for line := range strings.Lines(ns.Run("ethtool", "-k", device)) {
			name, state, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok {
				continue
			}
			f := feature{Active: strings.HasPrefix(state, "on"), Fixed: strings.Contains(state, "[fixed]")}
			f.Requested = f.Active && !strings.Contains(state, "[requested off]") || strings.Contains(state, "[requested on]")
			all[name] = f
		}
		return all
	}
	var said []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(ns.Run("ethtool", "--json", "-k", device)), &said); err != nil {
		t.Fatal(err)
	}
	for name, raw := range said[0] {
		var f struct{ Active, Requested, Fixed *bool }
		if json.Unmarshal(raw, &f) == nil && f.Active != nil && f.Requested != nil && f.Fixed != nil {
			all[name] = feature{*f.Active, *f.Requested, *f.Fixed}
		}
	}
	return all
}

// read reads the features of a device in a namespace.
func read(t testing.TB, ns *labtest.NS, d ethtool.Device) (f ethtool.Features, err error) {
	t.Helper()
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		f, err = c.Features(context.Background(), d)
		return c.Close()
	})
	return f, err
}

func TestFeaturesAreWhatEthtoolSays(t *testing.T) {
	ns := zoo(t)
	for _, d := range devices(t, ns) {
		said := says(t, ns, d.Name)
		got, err := read(t, ns, d)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(got) < 50 {
			t.Errorf("%s: %d features", d.Name, len(got))
		}
		for _, f := range got {
			want, ok := said[older(f.Name)]
			if want.Fixed && !labtest.EthtoolNetlink() {
				want.Requested = f.Requested // the lines do not tell
			}
			if !ok {
				t.Errorf("%s: ethtool knows no %s", d.Name, f.Name)
			} else if f.Active != want.Active || f.Requested != want.Requested || f.Fixed != want.Fixed {
				t.Errorf("%s: %+v, ethtool says %+v", d.Name, f, want)
			}
		}
	}
}

// TestSwitchIsSeen turns the feature that matters off and on again.
func TestSwitchIsSeen(t *testing.T) {
	ns := zoo(t)
	vx := device(t, ns, "vx0")
	const name = "tx-checksum-ip-generic"
	for _, state := range []string{"off", "on", "off"} {
		ns.Run("ethtool", "-K", "vx0", name, state)
		f, err := read(t, ns, vx)
		if err != nil {
			t.Fatal(err)
		}
		if g, ok := f.Get(name); !ok || g.Active != (state == "on") || g.Requested != (state == "on") || g.Fixed ||
			!g.Available {
			t.Errorf("switched %s: %+v", state, g)
		}
	}
	if _, ok := (ethtool.Features{}).Get(name); ok {
		t.Error("found where there is none")
	}
}

func TestDriver(t *testing.T) {
	ns := zoo(t)
	for _, d := range devices(t, ns) {
		if d.Name == "lo" {
			continue // has no driver
		}
		want := make(map[string]string)
		for line := range strings.Lines(ns.Run("ethtool", "-i", d.Name)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			want[k] = strings.TrimSpace(v)
		}
		ns.Do(func() error {
			c := ethtool.NewClient(nil)
			got, err := c.Driver(context.Background(), d)
			if got.Name == "" || got.Name != want["driver"] || got.Version != want["version"] ||
				got.FirmwareVersion != want["firmware-version"] || got.Bus != want["bus-info"] {
				t.Errorf("%s: %+v, ethtool says %v", d.Name, got, want)
			}
			return errors.Join(err, c.Close())
		})
	}
}

func TestDeviceGone(t *testing.T) {
	ns := zoo(t)
	vx, next := device(t, ns, "vx0"), device(t, ns, "vx1")
	ns.Run("ip", "link", "del", "vx0")
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		_, err := c.Features(context.Background(), vx)
		if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENODEV) || !strings.Contains(err.Error(), `"vx0"`) {
			t.Error(err)
		}
		// It costs that device only.
		if f, err := c.Features(context.Background(), next); err != nil || len(f) == 0 {
			t.Errorf("the next device: %v", err)
		}
		if _, err := c.Driver(context.Background(), vx); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("driver: %v", err)
		}
		return c.Close()
	})
}

func TestImpossibleNames(t *testing.T) {
	ns := zoo(t)
	for _, name := range []string{"", "a-name-of-sixteen", "vx0\x00tail", "..", "\xff\xff"} {
		if _, err := read(t, ns, ethtool.Device{Index: 1, Name: name}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The kernel would cut this name at the colon and answer for another device.
	d := ethtool.Device{Index: device(t, ns, "lo").Index, Name: "vx0:1"}
	if _, err := read(t, ns, d); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("colon: %v", err)
	}
}

// TestUnprivileged reads everything as nobody: no capability is needed.
func TestUnprivileged(t *testing.T) {
	labtest.NeedRoot(t, "it reads as another user")
	ns := zoo(t)
	v0 := device(t, ns, "v0")
	ns.Do(func() error {
		const nobody = 65534
		// Only this thread changes its user; it ends with the function.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			return errno
		}
		c := ethtool.NewClient(nil)
		f, err := c.Features(context.Background(), v0)
		driver, err2 := c.Driver(context.Background(), v0)
		if len(f) == 0 || driver.Name != "veth" {
			t.Errorf("%d features, driver %+v", len(f), driver)
		}
		return errors.Join(err, err2, c.Close())
	})
}

func TestLooksLeaveNoSocketsOpen(t *testing.T) {
	ns := zoo(t)
	all := devices(t, ns)
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		links := ethtool.NewLinkReader(openLinks(ns))
		var before int
		for i := range 6 {
			for _, d := range append(all, ethtool.Device{Index: 1 << 20, Name: "none"}) {
				if _, err := c.Features(context.Background(), d); err != nil && d.Name != "none" {
					return err
				}
			}
			if err := c.Close(); err != nil {
				return err
			}
			if _, err := links.Read(context.Background(), all); err != nil {
				return err
			}
			open, err := openSockets()
			if err != nil {
				return err
			}
			if i == 0 {
				before = open
			} else if open != before {
				t.Errorf("%d sockets open, %d before", open, before)
			}
		}
		return nil
	})
}

func TestIoctlAllocatesTheResultOnly(t *testing.T) {
	ns := zoo(t)
	vx := device(t, ns, "vx0")
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		n := testing.AllocsPerRun(20, func() {
			if _, err := c.Features(context.Background(), vx); err != nil {
				t.Error(err)
			}
		})
		if n > 1 {
			t.Errorf("%v allocations", n)
		}
		return c.Close()
	})
}

// openSockets counts the open sockets of this process.
func openSockets() (n int, err error) {
	files, err := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		// A file that was closed meanwhile has no link any more.
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n, err
}
