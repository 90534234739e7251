package collectors_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

// devicesOf is the device collector inside a namespace, as an exporter there has it.
type devicesOf struct {
	*collectors.Device
	ns *labtest.NS
}

func (d devicesOf) Observe(ctx context.Context, known *node.Node) (fill collectors.Fill, err error) {
	d.ns.Do(func() error { fill, err = d.Device.Observe(ctx, known); return nil })
	return fill, err
}

// TestWireFollowsDevices: a device that appears between two looks is watched, and so is the port of another, also when
// a look that began before it comes to its end.
func TestWireFollowsDevices(t *testing.T) {
	ns, far := labtest.New(t, "follow"), labtest.New(t, "far")
	ns.Run("ip", "link", "add", "nic", "type", "veth", "peer", "name", "nic", "netns", far.Name)
	for _, n := range []*labtest.NS{ns, far} {
		n.Run("ip", "link", "set", "nic", "addrgenmode", "none", "up")
	}
	var opened atomic.Int32
	devices := devicesOf{collectors.NewDevice(collectors.DeviceConfig{}), ns}
	c := collectors.NewWire(collectors.WireConfig{Devices: devices, Open: func() (s capture.Socket, err error) {
		opened.Add(1)
		ns.Do(func() error { s, err = capture.Open(); return nil })
		return s, err
	}})
	startWire(t, c)
	known := &node.Node{Time: time.Now()}
	observe := func() (fill collectors.Fill, err error) {
		ns.Do(func() error { fill, err = c.Observe(t.Context(), known); return nil })
		return fill, err
	}
	if _, err := observe(); node.Classify(err) != node.None {
		t.Fatalf("without a device: %v", err)
	}
	eventually(t, "the NIC of the new device is watched", func() bool {
		if opened.Load() == 0 { // again and again, should the first one have come before anybody listened
			ns.Run("sh", "-c", "ip link del vxlan1 2>/dev/null; ip link add vxlan1 type vxlan id 1 dstport 8472 dev nic")
		}
		return opened.Load() > 0
	})
	ns.Run("ip", "link", "add", "vxlan2", "type", "vxlan", "id", "2", "dstport", "4789", "dev", "nic")
	frame := badFrame(netip.MustParseAddr("10.0.0.1"))
	frame[14+20+2], frame[14+20+3] = 4789>>8, 4789&0xff
	for i := range 6 {
		frame[i] = 0xff
	}
	var last node.Node
	eventually(t, "a packet to the port of the second device is judged", func() bool {
		send(t, far, "nic", frame)
		fill, _ := observe() // what this look knows of is nothing yet
		if fill != nil {
			fill(&last)
		}
		return last.Wire != nil && len(last.Wire.Bad) == 1 && last.Wire.Bad[0].Peer == "10.0.0.1"
	})
	if opened.Load() != 1 || len(last.Wire.Interfaces) != 1 || last.Wire.Interfaces[0] != "nic" {
		t.Errorf("%d sockets, %+v", opened.Load(), last.Wire)
	}
}

// TestWireNamedInterface: what is below an external device nobody can tell; it is named.
func TestWireNamedInterface(t *testing.T) {
	s := newScript()
	c := collectors.NewWire(collectors.WireConfig{Interfaces: []string{"eth7"}, Open: s.open})
	startWire(t, c)
	fill, err := c.Observe(t.Context(), knownWith(""))
	if err != nil {
		t.Fatal(err)
	}
	var n node.Node
	if fill(&n); len(n.Wire.Interfaces) != 1 || n.Wire.Interfaces[0] != "eth7" {
		t.Errorf("%+v", n.Wire)
	}
}

// eventually waits, for ten seconds at most, until done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("not within 10 s: ", what)
		}
	}
}

// send puts a frame on an interface.
func send(t *testing.T, ns *labtest.NS, name string, frame []byte) {
	t.Helper()
	ns.Do(func() error {
		s, err := capture.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		i, err := s.Interface(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
}
