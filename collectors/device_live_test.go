package collectors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"

	"golang.org/x/sys/unix"
)

// overlay makes VXLAN devices that find their underlays in different ways.
func overlay(t testing.TB) *labtest.NS {
	ns := labtest.New(t, "device")
	ns.RunInput(`link add nic type veth peer name far
addr add 192.0.2.1/24 dev nic
addr add 2001:db8::1/64 dev nic nodad
link set nic up
link set far up
link add flannel.1 type vxlan id 1 dstport 8472 dev nic local 192.0.2.1 nolearning
link add byaddr type vxlan id 2 dstport 8472 local 192.0.2.1 noudpcsum
link add byaddr6 type vxlan id 3 dstport 4789 local 2001:db8::1 udp6zerocsumrx
link add nowhere type vxlan id 4 dstport 4789 local 203.0.113.1
link add cilium type vxlan external dstport 8473
link set flannel.1 up
`, "ip", "-batch", "-")
	return ns
}

// observe runs collectors one after the other, each with what is known by then.
func observe(ctx context.Context, cs ...Collector) (n node.Node, err error) {
	for _, c := range cs {
		known := n
		fill, e := c.Observe(ctx, &known)
		if fill != nil {
			fill(&n)
		}
		err = errors.Join(err, e)
	}
	return n, err
}

// A device that was moved here says which namespace has its socket; in that one, the socket and its port are seen
// though the device is gone.
func TestObserveBothHalvesOfAMovedDevice(t *testing.T) {
	host, there := labtest.New(t, "host"), labtest.New(t, "overlay")
	host.Run("ip", "link", "add", "vx-here", "type", "vxlan", "id", "1", "dstport", "8472")
	host.Run("ip", "link", "set", "vx-here", "up")
	host.Run("ip", "link", "add", "vxlan0", "type", "vxlan", "id", "4097", "dstport", "4789")
	host.Run("ip", "link", "set", "vxlan0", "netns", there.Name)
	there.Run("ip", "link", "set", "vxlan0", "up")
	for _, c := range []struct {
		ns      *labtest.NS
		devices string
		ports   string
	}{
		{host, "[vx-here:]", "[{4789 true false false} {8472 true false true}]"},
		{there, "[vxlan0:/run/netns/" + host.Name + "]", "[{4789 true false true} {8472 true false false}]"},
	} {
		var n node.Node
		c.ns.Do(func() (err error) {
			n, err = observe(context.Background(), NewDevice(DeviceConfig{Proc: "/proc/thread-self"}))
			return err
		})
		var devices []string
		for _, d := range n.Devices {
			devices = append(devices, d.Name+":"+d.LinkNetnsPath)
		}
		if fmt.Sprint(devices) != c.devices || fmt.Sprint(n.Ports) != c.ports {
			t.Errorf("devices %v, ports %v, want %s, %s", devices, n.Ports, c.devices, c.ports)
		}
	}
}

func TestObserveDevices(t *testing.T) {
	ns := overlay(t)
	var n node.Node
	ns.Do(func() (err error) {
		n, err = observe(context.Background(), NewDevice(DeviceConfig{Ports: []uint16{8472, 9000}}),
			NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)}))
		return err
	})
	underlays := make(map[string]string)
	for _, d := range n.Devices {
		underlays[d.Name] = d.Underlay
		if f, ok := d.Features.Get("tx-checksum-ip-generic"); !ok || !f.Active || d.FeaturesError != "" {
			t.Errorf("%s: %+v %s", d.Name, f, d.FeaturesError)
		}
	}
	if want := "map[byaddr:nic byaddr6:nic cilium: flannel.1:nic nowhere:]"; fmt.Sprint(underlays) != want {
		t.Errorf("underlays %v, want %s", underlays, want)
	}
	if !slices.IsSortedFunc(n.Devices, func(a, b node.Device) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("devices are not in order")
	}
	if want := "[{4789 true true true} {8472 true false true} {8473 true true true} {9000 true true false}]"; fmt.Sprint(
		n.Ports) != want {
		t.Errorf("ports %v, want %s", n.Ports, want)
	}
	if len(n.Underlays) != 1 {
		t.Fatalf("underlays %+v", n.Underlays)
	}
	u := n.Underlays[0]
	if u.Name != "nic" || u.MTU != 1500 || u.Driver.Name != "veth" || u.LinkUp == nil || !*u.LinkUp ||
		len(u.Features) == 0 || len(u.PrivateFlags) != 0 {
		t.Errorf("underlay %+v", u)
	}
	// Half of the room for series belongs to two devices, and each has its share.
	text := series(deviceExposition(t, NewDevice(DeviceConfig{}), &n))
	if count := len(strings.Split(text, "\n")); count > 17*len(n.Devices) {
		t.Errorf("%d series of %d devices", count, len(n.Devices))
	}
	for _, line := range []string{
		`vxlan_device_info{device="byaddr6",external="false",family="ipv6",local="2001:db8::1",` +
			`port="4789",underlay="nic",vni="3"} 1`,
		`vxlan_device_info{device="cilium",external="true",family="",local="",port="8473",underlay="",vni=""} 1`,
		`vxlan_device_udp6_zero_checksum_enabled{device="byaddr6",direction="rx"} 1`,
		`vxlan_device_udp_checksum_enabled{device="byaddr"} 0`,
		`vxlan_device_udp_checksum_enabled{device="flannel.1"} 1`,
		`vxlan_device_up{device="byaddr"} 0`,
		`vxlan_device_up{device="flannel.1"} 1`,
	} {
		if !strings.Contains(text+"\n", line+"\n") {
			t.Errorf("missing %s in\n%s", line, text)
		}
	}
}

func TestObserveMovedDevice(t *testing.T) {
	ns, pod := overlay(t), labtest.New(t, "pod")
	// In the pod's namespace another device has the index of the NIC.
	pod.Run("ip", "link", "add", "other", "index", strings.Fields(ns.Run("cat", "/sys/class/net/nic/ifindex"))[0],
		"type", "bridge")
	ns.Run("ip", "link", "set", "flannel.1", "netns", pod.Name)
	pod.Do(func() error {
		n, err := observe(context.Background(), NewDevice(DeviceConfig{}),
			NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)}))
		if len(n.Devices) != 1 || n.Devices[0].Underlay != "" || n.Devices[0].LinkNetns == nil || len(n.Underlays) != 0 {
			t.Errorf("devices %+v, underlays %+v", n.Devices, n.Underlays)
		}
		return err
	})
}

func TestObserveNoDevices(t *testing.T) {
	labtest.New(t, "device").Do(func() error {
		n, err := observe(context.Background(), NewDevice(DeviceConfig{}), NewUnderlay(DeviceConfig{}))
		if len(n.Devices)+len(n.Underlays) != 0 || fmt.Sprint(n.Ports) != "[{4789 true true false} {8472 true true false}]" {
			t.Errorf("devices %v, underlays %v, ports %v", n.Devices, n.Underlays, n.Ports)
		}
		return err
	})
}

// TestObserveUnprivileged looks as nobody, on a thread of its own.
func TestObserveUnprivileged(t *testing.T) {
	labtest.NeedRoot(t, "it looks as another user")
	ns := overlay(t)
	ns.Do(func() error {
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			return errno
		}
		n, err := observe(context.Background(), NewDevice(DeviceConfig{}),
			NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)}))
		if len(n.Devices) != 5 || len(n.Underlays) != 1 || len(n.Underlays[0].Features) == 0 ||
			n.Underlays[0].Driver.Name != "veth" {
			t.Errorf("devices %+v, underlays %+v", n.Devices, n.Underlays)
		}
		return err
	})
}

// failing is a kernel whose ioctl fails for one device.
type failing struct {
	ethtool.IoctlSocket
	name string
	err  error
}

func (f failing) Ethtool(name string, b []byte) error {
	if name == f.name {
		return f.err
	}
	return f.IoctlSocket.Ethtool(name, b)
}

// failingIoctl makes the ioctl fail for one device.
func failingIoctl(name string, err error) func() (ethtool.IoctlSocket, error) {
	return func() (ethtool.IoctlSocket, error) {
		s, openErr := ethtool.OpenIoctl()
		return failing{s, name, err}, openErr
	}
}

func TestFeaturesOfOneDeviceFail(t *testing.T) {
	ns := overlay(t)
	ns.Do(func() error {
		open := failingIoctl("flannel.1", unix.EIO)
		c := NewDevice(DeviceConfig{OpenIoctl: open})
		n, err := observe(context.Background(), c)
		if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), `"flannel.1"`) || len(n.Devices) != 5 ||
			node.Classify(err) != node.Failed {
			t.Errorf("%d devices, %v", len(n.Devices), err)
		}
		for _, d := range n.Devices {
			if (d.Name == "flannel.1") != (len(d.Features) == 0) || (d.Name == "flannel.1") != (d.FeaturesError != "") {
				t.Errorf("%s: %d features, %q", d.Name, len(d.Features), d.FeaturesError)
			}
		}
		text := deviceExposition(t, c, &n)
		if strings.Contains(text, `feature_active{device="flannel.1"`) ||
			!strings.Contains(text, `vxlan_device_up{device="flannel.1"} 1`) ||
			!strings.Contains(text, `feature_active{device="byaddr"`) {
			t.Error(text)
		}
		fill, err := NewUnderlay(DeviceConfig{OpenIoctl: failingIoctl("nic", unix.EIO), OpenLinks: openLinks(ns)}).
			Observe(context.Background(), &n)
		if !errors.Is(err, unix.EIO) || fill == nil {
			return fmt.Errorf("underlay: %w", err)
		}
		if fill(&n); len(n.Underlays) != 1 || n.Underlays[0].FeaturesError == "" || n.Underlays[0].LinkUp == nil {
			t.Errorf("underlays %+v", n.Underlays)
		}
		return nil
	})
}

func TestVanishingIsNoFailure(t *testing.T) {
	ns := overlay(t)
	ns.Do(func() error {
		n, err := observe(context.Background(), NewDevice(DeviceConfig{OpenIoctl: failingIoctl("flannel.1", unix.ENODEV)}))
		if _, ok := n.Device("flannel.1"); ok || len(n.Devices) != 4 {
			t.Errorf("%d devices", len(n.Devices))
		}
		for i := range n.Devices {
			n.Devices[i].Underlay = "gone"
		}
		fill, underlayErr := NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)}).Observe(context.Background(), &n)
		if fill(&n); len(n.Underlays) != 0 {
			t.Errorf("underlays %+v", n.Underlays)
		}
		return errors.Join(err, underlayErr)
	})
}

// TestKernelBeforeGenericNetlink has only the ioctl, and link state from rtnetlink.
func TestKernelBeforeGenericNetlink(t *testing.T) {
	ns := overlay(t)
	none := func() (ethtool.LinkClient, error) { return nil, errors.ErrUnsupported }
	for _, up := range []bool{true, false} {
		if !up {
			ns.Run("ip", "link", "set", "far", "down")
		}
		ns.Do(func() error {
			n, err := observe(context.Background(), NewDevice(DeviceConfig{}), NewUnderlay(DeviceConfig{OpenLinks: none}))
			if len(n.Underlays) != 1 || n.Underlays[0].LinkUp == nil || *n.Underlays[0].LinkUp != up ||
				len(n.Underlays[0].Features) == 0 {
				t.Errorf("underlays %+v", n.Underlays)
			}
			return err
		})
	}
	ns.Do(func() error {
		broken := func() (ethtool.LinkClient, error) { return nil, unix.EMFILE }
		n, err := observe(context.Background(), NewDevice(DeviceConfig{}), NewUnderlay(DeviceConfig{OpenLinks: broken}))
		if !errors.Is(err, unix.EMFILE) || len(n.Underlays) != 1 || len(n.Underlays[0].Features) == 0 {
			t.Errorf("underlays %+v, %v", n.Underlays, err)
		}
		return nil
	})
}

// TestManyDevicesTakeFewSockets reads 200 devices by one rtnetlink socket and one for the ioctl, and leaves none open.
func TestManyDevicesTakeFewSockets(t *testing.T) {
	ns := manyDevices(t, 200)
	var route, ioctl int
	c := NewDevice(DeviceConfig{
		OpenRoute: func() (nl.Socket, error) { route++; return nl.Route() },
		OpenIoctl: func() (ethtool.IoctlSocket, error) { ioctl++; return ethtool.OpenIoctl() },
	})
	u := NewUnderlay(DeviceConfig{OpenLinks: openLinks(ns)})
	ns.Do(func() error {
		var before int
		for i := range 6 {
			n, err := observe(context.Background(), c, u)
			if err != nil {
				return err
			}
			if len(n.Devices) != 200 || len(n.Underlays) != 1 {
				t.Errorf("%d devices over %d NICs", len(n.Devices), len(n.Underlays))
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
	if route != 12 || ioctl != 6 {
		t.Errorf("6 looks opened %d rtnetlink and %d ioctl sockets", route, ioctl)
	}
}

func TestDeadlineEndsTheLook(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	overlay(t).Do(func() error {
		if _, err := observe(ctx, NewDevice(DeviceConfig{})); node.Classify(err) != node.Failed ||
			!errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return nil
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

// openLinks opens the socket in a namespace: the collector opens it on a thread of its own.
func openLinks(ns *labtest.NS) func() (ethtool.LinkClient, error) {
	return func() (c ethtool.LinkClient, err error) {
		ns.Do(func() error {
			c, err = ethtool.OpenLinks()
			return nil
		})
		return c, err
	}
}
