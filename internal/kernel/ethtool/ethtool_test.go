package ethtool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
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
		"rx-checksum": "rx-checksumming", "tx-generic-segmentation": "generic-segmentation-offload", "rx-gro": "generic-receive-offload",
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

// says asks ethtool(8), which has JSON only where it can use generic netlink, and else lines like "	tx-lockless: on [fixed]".
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
func read(t testing.TB, ns *labtest.NS, cfg ethtool.Config, d ethtool.Device) (f ethtool.Features, err error) {
	t.Helper()
	ns.Do(func() error {
		c := ethtool.NewClient(cfg)
		f, err = c.Features(context.Background(), d)
		return c.Close()
	})
	return f, err
}

func TestFeaturesAreWhatEthtoolSays(t *testing.T) {
	ns := zoo(t)
	for _, d := range devices(t, ns) {
		said := says(t, ns, d.Name)
		for _, path := range paths(ethtool.Auto) {
			got, err := read(t, ns, ethtool.Config{Path: path}, d)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if len(got) < 50 {
				t.Errorf("%s of %s: %d features", path, d.Name, len(got))
			}
			for _, f := range got {
				want, ok := said[older(f.Name)]
				if want.Fixed && !labtest.EthtoolNetlink() {
					want.Requested = f.Requested // the lines do not tell
				}
				if !ok {
					t.Errorf("%s of %s: ethtool knows no %s", path, d.Name, f.Name)
				} else if f.Active != want.Active || f.Requested != want.Requested || f.Fixed != want.Fixed {
					t.Errorf("%s of %s: %+v, ethtool says %+v", path, d.Name, f, want)
				}
			}
		}
	}
}

// paths are those that this kernel has, behind others.
func paths(others ...ethtool.Path) []ethtool.Path {
	all := slices.Concat(others, []ethtool.Path{ethtool.Ioctl})
	if labtest.EthtoolNetlink() {
		all = append(all, ethtool.Netlink)
	}
	return all
}

// TestPathsAgree compares the two interfaces feature by feature, on every device of a namespace and of the machine.
func TestPathsAgree(t *testing.T) {
	ns := zoo(t)
	if !labtest.EthtoolNetlink() {
		for _, d := range devices(t, ns) {
			if f, err := read(t, ns, ethtool.Config{Path: ethtool.Netlink}, d); !errors.Is(err, errors.ErrUnsupported) || f != nil {
				t.Errorf("%s: %v by a family that is not there, %v", d.Name, f, err)
			}
		}
		return
	}
	check := func(devices []ethtool.Device, read func(cfg ethtool.Config, d ethtool.Device) (ethtool.Features, error)) {
		if len(devices) == 0 {
			t.Error("no devices")
		}
		for _, d := range devices {
			a, errA := read(ethtool.Config{Path: ethtool.Ioctl}, d)
			b, errB := read(ethtool.Config{Path: ethtool.Netlink}, d)
			if err := errors.Join(errA, errB); err != nil {
				t.Error(err)
			}
			if len(a) == 0 || !slices.Equal(a, b) {
				t.Errorf("%s: by ioctl\n%+v\nby generic netlink\n%+v", d.Name, a, b)
			}
		}
	}
	check(devices(t, ns), func(cfg ethtool.Config, d ethtool.Device) (ethtool.Features, error) { return read(t, ns, cfg, d) })
	check(machine(t), func(cfg ethtool.Config, d ethtool.Device) (ethtool.Features, error) {
		c := ethtool.NewClient(cfg)
		defer c.Close()
		return c.Features(context.Background(), d)
	})
}

// TestSwitchIsSeen turns the feature that matters off and on again.
func TestSwitchIsSeen(t *testing.T) {
	ns := zoo(t)
	vx := device(t, ns, "vx0")
	const name = "tx-checksum-ip-generic"
	for _, state := range []string{"off", "on", "off"} {
		ns.Run("ethtool", "-K", "vx0", name, state)
		for _, path := range paths() {
			f, err := read(t, ns, ethtool.Config{Path: path}, vx)
			if err != nil {
				t.Fatal(err)
			}
			if g, ok := f.Get(name); !ok || g.Active != (state == "on") || g.Requested != (state == "on") || g.Fixed || !g.Available {
				t.Errorf("%s, switched %s: %+v", path, state, g)
			}
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
			c := ethtool.NewClient(ethtool.Config{})
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
	for _, path := range paths(ethtool.Auto) {
		ns.Do(func() error {
			c := ethtool.NewClient(ethtool.Config{Path: path})
			_, err := c.Features(context.Background(), vx)
			if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENODEV) || !strings.Contains(err.Error(), `"vx0"`) {
				t.Errorf("%s: %v", path, err)
			}
			// It costs that device only.
			if f, err := c.Features(context.Background(), next); err != nil || len(f) == 0 {
				t.Errorf("%s: the next device: %v", path, err)
			}
			return c.Close()
		})
	}
	ns.Do(func() error {
		c := ethtool.NewClient(ethtool.Config{})
		if _, err := c.Driver(context.Background(), vx); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("driver: %v", err)
		}
		return c.Close()
	})
}

func TestImpossibleNames(t *testing.T) {
	ns := zoo(t)
	for _, name := range []string{"", "a-name-of-sixteen", "vx0\x00tail", "..", "\xff\xff"} {
		if _, err := read(t, ns, ethtool.Config{Path: ethtool.Ioctl}, ethtool.Device{Index: 1, Name: name}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The kernel would cut this name at the colon and answer for another device.
	d := ethtool.Device{Index: device(t, ns, "lo").Index, Name: "vx0:1"}
	if _, err := read(t, ns, ethtool.Config{Path: ethtool.Ioctl}, d); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("colon: %v", err)
	}
	lo, err := read(t, ns, ethtool.Config{Path: ethtool.Netlink}, d)
	if !labtest.EthtoolNetlink() {
		if _, autoErr := read(t, ns, ethtool.Config{}, d); !errors.Is(err, errors.ErrUnsupported) || !errors.Is(autoErr, errors.ErrUnsupported) {
			t.Errorf("colon, by index: %v, %v", err, autoErr)
		}
		return
	}
	if auto, autoErr := read(t, ns, ethtool.Config{}, d); errors.Join(err, autoErr) != nil || !slices.Equal(auto, lo) {
		t.Errorf("colon, by index: %v, %v", err, autoErr)
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
		var errs []error
		for _, path := range paths() {
			c := ethtool.NewClient(ethtool.Config{Path: path})
			f, err := c.Features(context.Background(), v0)
			driver, err2 := c.Driver(context.Background(), v0)
			if len(f) == 0 || driver.Name != "veth" {
				t.Errorf("%s: %d features, driver %+v", path, len(f), driver)
			}
			errs = append(errs, err, err2, c.Close())
		}
		return errors.Join(append(errs, checkState(v0, true))...)
	})
}

func TestState(t *testing.T) {
	ns := zoo(t)
	v0 := device(t, ns, "v0")
	ns.Do(func() error { return checkState(v0, true) })
	ns.Run("ip", "link", "set", "v1", "down")
	ns.Do(func() error { return checkState(v0, false) })
	if !labtest.EthtoolNetlink() {
		return
	}
	ns.Run("ip", "link", "del", "v0")
	ns.Do(func() error {
		c := ethtool.NewClient(ethtool.Config{})
		_, upErr := c.LinkUp(context.Background(), v0)
		_, flagsErr := c.ChecksumFlags(context.Background(), v0)
		if !errors.Is(upErr, fs.ErrNotExist) || !errors.Is(flagsErr, fs.ErrNotExist) {
			t.Errorf("device gone: %v, %v", upErr, flagsErr)
		}
		return c.Close()
	})
}

// checkState expects a link state; veth has no private flags, and says so. Without the family there is neither.
func checkState(d ethtool.Device, up bool) error {
	c := ethtool.NewClient(ethtool.Config{})
	got, err := c.LinkUp(context.Background(), d)
	_, flagsErr := c.ChecksumFlags(context.Background(), d)
	if !labtest.EthtoolNetlink() {
		if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(flagsErr, errors.ErrUnsupported) {
			return fmt.Errorf("link state without the family: %w, %w", err, flagsErr)
		}
		return c.Close()
	}
	if err == nil && got != up {
		err = errors.New("wrong link state")
	}
	if !errors.Is(flagsErr, errors.ErrUnsupported) || errors.Is(flagsErr, fs.ErrNotExist) {
		err = errors.Join(err, errors.New("private flags of a device that has none"), flagsErr)
	}
	return errors.Join(err, c.Close())
}

func TestLooksLeaveNoSocketsOpen(t *testing.T) {
	ns := zoo(t)
	all := devices(t, ns)
	ns.Do(func() error {
		var clients []*ethtool.Client
		for _, path := range paths() {
			clients = append(clients, ethtool.NewClient(ethtool.Config{Path: path}))
		}
		var before int
		for i := range 6 {
			for _, c := range clients {
				for _, d := range append(all, ethtool.Device{Index: 1 << 20, Name: "none"}) {
					if _, err := c.Features(context.Background(), d); err != nil && d.Name != "none" {
						return err
					}
				}
				if err := c.Close(); err != nil {
					return err
				}
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
		c := ethtool.NewClient(ethtool.Config{Path: ethtool.Ioctl})
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

// machine lists the devices of the namespace the test runs in, which is only read.
func machine(t testing.TB) []ethtool.Device {
	t.Helper()
	names, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]ethtool.Device)
	for _, n := range names {
		index, err := os.ReadFile("/sys/class/net/" + n.Name() + "/ifindex")
		if err != nil {
			continue // a file, such as bonding_masters
		}
		d := ethtool.Device{Name: n.Name()}
		if err := json.Unmarshal(index, &d.Index); err != nil {
			t.Fatal(err)
		}
		found[n.Name()] = d
	}
	return slices.Collect(maps.Values(found))
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
