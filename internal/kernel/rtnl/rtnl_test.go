package rtnl_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/test/lab/labtest"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// zoo makes VXLAN devices of every kind beside devices that are none, among them names that are hard to print.
func zoo(t testing.TB) *labtest.NS {
	ns := labtest.New(t, "rtnl")
	ns.RunInput(`link add v0 type veth peer name v1
link add br0 type bridge
addr add 192.0.2.1/24 dev v0
addr add 192.0.2.9 peer 198.51.100.1/32 dev br0
addr add 2001:db8::1/64 dev v0 nodad
link set v0 up
link set v1 up
link set v1 mtu 1400
link add csum type vxlan id 1 dstport 8472 dev v0 local 192.0.2.1 udpcsum
link add nocsum type vxlan id 2 dstport 8472 srcport 4000 5000 local 192.0.2.1 noudpcsum
link add peer type vxlan id 20 dstport 8472 local 192.0.2.9
link add six type vxlan id 3 dstport 4789 dev v0 local 2001:db8::1
link add sixzero type vxlan id 4 dstport 4789 remote 2001:db8::2 udp6zerocsumtx udp6zerocsumrx
link add sixtx type vxlan id 14 dstport 4789 local 2001:db8::1 udp6zerocsumtx
link add ext type vxlan external dstport 4790
link add gpe type vxlan external gpe dstport 4791
link add mcast type vxlan id 5 dstport 8472 dev v0 group 239.1.1.1
link add mcast6 type vxlan id 6 dstport 8472 dev v0 group ff05::100
link add bare type vxlan id 16777215 dstport 65535
link add <b>"x" type vxlan id 8 dstport 8473
link set csum up
link set nocsum mtu 1234
`, "ip", "-batch", "-")
	ns.Run("ip", "link", "add", "a\xff\\\"b", "type", "vxlan", "id", "9", "dstport", "8474")
	ns.AddTun("tun0", "tun")
	return ns
}

// ipLink is what ip -d -j link says of a device.
type ipLink struct {
	Index    int      `json:"ifindex"`
	Name     string   `json:"ifname"`
	Flags    []string `json:"flags"`
	MTU      uint32   `json:"mtu"`
	Type     string   `json:"link_type"`
	NetnsID  *int32   `json:"link_netnsid"`
	Master   string   `json:"master"`
	LinkInfo struct {
		Kind string `json:"info_kind"`
		Data struct {
			ID    uint32 `json:"id"`
			Port  uint16 `json:"port"`
			Ports struct {
				Low  uint16 `json:"low"`
				High uint16 `json:"high"`
			} `json:"port_range"`
			Link     string `json:"link"`
			LinkIdx  int    `json:"link_index"`
			Local    string `json:"local"`
			Local6   string `json:"local6"`
			Remote   string `json:"remote"`
			Remote6  string `json:"remote6"`
			Group    string `json:"group"`
			Group6   string `json:"group6"`
			External bool   `json:"external"`
			Csum     bool   `json:"udp_csum"`
			ZeroTx   bool   `json:"udp_zero_csum6_tx"`
			ZeroRx   bool   `json:"udp_zero_csum6_rx"`
		} `json:"info_data"`
	} `json:"linkinfo"`
}

func ipLinks(t *testing.T, ns *labtest.NS) []ipLink {
	t.Helper()
	var links []ipLink
	if err := json.Unmarshal([]byte(ns.Run("ip", "-d", "-j", "link")), &links); err != nil {
		t.Fatal(err)
	}
	return links
}

// expected turns what ip says into Links.
func expected(links []ipLink) []rtnl.Link {
	index := make(map[string]int)
	for _, l := range links {
		index[l.Name] = l.Index
	}
	var want []rtnl.Link
	for _, l := range links {
		if l.LinkInfo.Kind != "vxlan" {
			continue
		}
		d := l.LinkInfo.Data
		addr := func(forms ...string) (a netip.Addr) {
			for _, s := range forms {
				if s != "" {
					a = netip.MustParseAddr(s)
				}
			}
			return a
		}
		underlay := d.LinkIdx
		if d.Link != "" && l.NetnsID == nil {
			underlay = index[d.Link]
		}
		want = append(want, rtnl.Link{
			Index: l.Index, Name: l.Name, Up: slices.Contains(l.Flags, "UP"), Running: slices.Contains(l.Flags, "LOWER_UP"),
			MTU: l.MTU, Kind: l.LinkInfo.Kind, Type: linkTypes[l.Type], VNI: d.ID, Port: d.Port,
			FirstPort: d.Ports.Low, LastPort: d.Ports.High,
			Local: addr(d.Local, d.Local6), Remote: addr(d.Remote, d.Remote6, d.Group, d.Group6), UnderlayIndex: underlay,
			LinkNetns: l.NetnsID, External: &d.External, UDPChecksum: &d.Csum, UDP6ZeroChecksumTx: &d.ZeroTx,
			UDP6ZeroChecksumRx: &d.ZeroRx,
		})
	}
	slices.SortFunc(want, func(a, b rtnl.Link) int { return a.Index - b.Index })
	return want
}

// linkTypes are those that ip tells by name.
var linkTypes = map[string]uint16{
	"ether": unix.ARPHRD_ETHER, "loopback": unix.ARPHRD_LOOPBACK, "none": unix.ARPHRD_NONE,
}

// links reads the VXLAN devices of a namespace.
func links(t *testing.T, ns *labtest.NS, open nl.Opener) (found []rtnl.Link) {
	t.Helper()
	look(t, ns, open, func(c *rtnl.Conn) (err error) {
		found, err = c.Links()
		return err
	})
	return found
}

func look(t *testing.T, ns *labtest.NS, open nl.Opener, f func(c *rtnl.Conn) error) {
	t.Helper()
	ns.Do(func() error {
		c, err := rtnl.Dial(context.Background(), open)
		if err != nil {
			return err
		}
		return errors.Join(f(c), c.Close())
	})
}

func compare(t *testing.T, got, want []rtnl.Link) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d links, ip says %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		// ip prints bytes that are not UTF-8 as they are, and decoding its JSON replaces them.
		g, w := got[i], want[i]
		if g.Index == w.Index && g.Name == "a\xff\\\"b" {
			g.Name = w.Name
		}
		g.Received, g.Sent, g.Flags, g.Lower = 0, 0, 0, 0
		if !reflect.DeepEqual(g, w) {
			a, _ := json.Marshal(g)
			b, _ := json.Marshal(w)
			t.Errorf("read   %s\nip says %s", a, b)
		}
	}
}

func TestLinksAreWhatIPSays(t *testing.T) {
	ns := zoo(t)
	want := expected(ipLinks(t, ns))
	if len(want) != 13 {
		t.Fatalf("ip shows %d VXLAN devices", len(want))
	}
	got := links(t, ns, nl.Route)
	compare(t, got, want)
	if i := slices.IndexFunc(got, func(l rtnl.Link) bool { return l.VNI == 9 }); i < 0 || got[i].Name != "a\xff\\\"b" {
		t.Error("the bytes of a name were not kept")
	}
}

// unfiltered is a kernel before 4.6, which ignores the filter and sends every device: the request loses all attributes.
type unfiltered struct{ nl.Socket }

func (s unfiltered) Send(m netlink.Message) (netlink.Message, error) {
	m.Data = m.Data[:16]
	return s.Socket.Send(m)
}

func TestLinksWithoutKernelFilter(t *testing.T) {
	ns := zoo(t)
	compare(t, links(t, ns, func() (nl.Socket, error) {
		s, err := nl.Route()
		return unfiltered{s}, err
	}), expected(ipLinks(t, ns)))
}

func TestLinkMovedToAnotherNamespace(t *testing.T) {
	from, to := labtest.New(t, "from"), labtest.New(t, "to")
	from.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	from.Run("ip", "link", "add", "moved", "type", "vxlan", "id", "1", "dstport", "8472", "dev", "v0")
	from.Run("ip", "link", "add", "stays", "type", "vxlan", "id", "2", "dstport", "8472", "dev", "v0")
	from.Run("ip", "link", "set", "moved", "netns", to.Name)
	got := links(t, to, nl.Route)
	if len(got) != 1 || got[0].Name != "moved" || got[0].LinkNetns == nil || got[0].VNI != 1 {
		t.Fatalf("read %+v", got)
	}
	if id := ipLinks(t, to)[1].NetnsID; id == nil || *id != *got[0].LinkNetns {
		t.Errorf("link_netnsid %d, ip says %v", *got[0].LinkNetns, id)
	}
	if got = links(t, from, nl.Route); len(got) != 1 || got[0].Name != "stays" || got[0].LinkNetns != nil {
		t.Errorf("read %+v", got)
	}
}

func TestNoDevices(t *testing.T) {
	if got := links(t, labtest.New(t, "none"), nl.Route); len(got) != 0 {
		t.Errorf("read %+v", got)
	}
}

func TestNIC(t *testing.T) {
	ns := zoo(t)
	all := ipLinks(t, ns)
	look(t, ns, nl.Route, func(c *rtnl.Conn) error {
		for _, l := range all {
			if l.LinkInfo.Data.ID == 9 {
				continue // its name is not UTF-8
			}
			want := rtnl.Link{
				Index: l.Index, Name: l.Name, Up: slices.Contains(l.Flags, "UP"),
				Running: slices.Contains(l.Flags, "LOWER_UP"), MTU: l.MTU, Kind: l.LinkInfo.Kind,
				Type: linkTypes[l.Type],
			}
			byIndex, err := c.NIC(l.Index)
			byName, err2 := c.NICByName(l.Name)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			// what packets there are is for TestSocketRests of package capture
			for _, nic := range []*rtnl.Link{&byIndex, &byName} {
				*nic = rtnl.Link{
					Index: nic.Index, Name: nic.Name, Up: nic.Up, Running: nic.Running, MTU: nic.MTU, Kind: nic.Kind,
					Type: nic.Type,
				}
			}
			if byIndex != want || byName != want {
				t.Errorf("by index %+v, by name %+v, ip says %+v", byIndex, byName, want)
			}
		}
		for _, name := range []string{"none", "", "longer-than-a-name"} {
			if _, err := c.NICByName(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("NICByName(%q): %v", name, err)
			}
		}
		if _, err := c.NIC(1 << 20); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("NIC of no device: %v", err)
		}
		return nil
	})
}

func TestOwners(t *testing.T) {
	ns := zoo(t)
	names := make(map[string]int)
	for _, l := range ipLinks(t, ns) {
		names[l.Name] = l.Index
	}
	addr := netip.MustParseAddr
	want := map[netip.Addr]int{
		addr("192.0.2.1"): names["v0"], addr("2001:db8::1"): names["v0"], addr("192.0.2.9"): names["br0"],
		addr("127.0.0.1"): names["lo"],
	}
	look(t, ns, nl.Route, func(c *rtnl.Conn) error {
		// 198.51.100.1 is the peer of br0, not its own address.
		got, err := c.Owners([]netip.Addr{
			addr("192.0.2.1"), addr("2001:db8::1"), addr("192.0.2.9"), addr("127.0.0.1"), addr("198.51.100.1"),
			addr("2001:db8::ff"),
			{},
		})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("owners %v, want %v", got, want)
		}
		return err
	})
}

// TestUnprivileged reads as nobody: no capability is needed.
func TestUnprivileged(t *testing.T) {
	labtest.NeedRoot(t, "it reads as another user")
	ns := zoo(t)
	want := expected(ipLinks(t, ns))
	var got []rtnl.Link
	look(t, ns, func() (nl.Socket, error) {
		const nobody = 65534
		// Only this thread changes its user; it ends with the look.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			return nil, errno
		}
		return nl.Route()
	}, func(c *rtnl.Conn) (err error) {
		got, err = c.Links()
		return err
	})
	compare(t, got, want)
}

func TestLooksLeaveNoSocketsOpen(t *testing.T) {
	ns := zoo(t)
	before, err := openSockets()
	for range 5 {
		links(t, ns, nl.Route)
	}
	after, err2 := openSockets()
	if err := errors.Join(err, err2); err != nil || after != before {
		t.Errorf("%d sockets open, %d before, %v", after, before, err)
	}
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

func TestContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := rtnl.Dial(ctx, nl.Route); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	ctx, cancel = context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := rtnl.Dial(ctx, nl.Route); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired: %v", err)
	}
}
