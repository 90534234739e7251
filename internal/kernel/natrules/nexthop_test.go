package natrules

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/lab/labtest"
)

// TestNexthops: prefixes behind several next hops, and behind nexthop objects, alone and in groups, in the form that the kernel gives
// them with and without its compatible attributes.
func TestNexthops(t *testing.T) {
	for _, compat := range []string{"1", "0"} {
		t.Run("compat"+compat, func(t *testing.T) {
			ns := labtest.New(t, "nexthops")
			ns.Run("sysctl", "-qw", "net.ipv4.nexthop_compat_mode="+compat)
			ns.RunInput(`link add dev va index 77 type vxlan id 1 dstport 8472 local 192.0.2.1
link add dev vb index 78 type vxlan id 2 dstport 8472 local 192.0.2.1
link set va up
link set vb up
addr add 10.9.0.1/16 dev va
addr add fd09::1/64 dev va nodad
addr add fd07::1/64 dev vb nodad
route add 10.1.0.0/16 nexthop via 10.9.0.2 dev va nexthop dev vb weight 3
route add 10.2.0.0/16 nexthop via 10.9.0.2 dev va nexthop via 10.9.0.3 dev va
route add 10.3.0.0/16 nexthop dev vb nexthop via inet6 fd07::2 dev vb
route add fd01::/32 dev va
route append fd01::/32 dev vb
route add fd02::/32 nexthop via fd09::2 dev va nexthop via fd07::3 dev vb
nexthop add id 5 dev va
nexthop add id 6 via 10.9.0.2 dev va
nexthop add id 7 dev vb
nexthop add id 8 group 6/7,5
nexthop add id 9 blackhole
nexthop add id 10 via fd09::2 dev va
route add 10.5.0.0/16 nhid 5
route add 10.6.0.0/16 nhid 7
route add 10.8.0.0/16 nhid 8
route add 10.10.0.0/16 nhid 9
route add fd05::/32 nhid 10
`, "ip", "-batch", "-")
			ns.Run("ip", "nexthop", "add", "id", "20", "via", "192.0.2.20", "fdb")
			ns.Run("ip", "nexthop", "add", "id", "21", "via", "192.0.2.21", "fdb")
			ns.Run("ip", "nexthop", "add", "id", "22", "group", "20/21", "fdb")
			ns.Run("bridge", "fdb", "add", "02:00:00:00:00:02", "dev", "va", "dst", "192.0.2.7")
			ns.Run("bridge", "fdb", "add", "02:00:00:00:00:03", "dev", "vb", "nhid", "22")
			ns.Do(func() error {
				s, err := ReadSurroundings(t.Context(), nl.Route)
				if err != nil {
					return err
				}
				for _, c := range []struct {
					index int
					want  string
				}{
					{77, "10.1.0.0/16 10.2.0.0/16 10.5.0.0/16 10.8.0.0/16 10.9.0.0/16 fd01::/32 fd02::/32 fd05::/32 fd09::/64"},
					{78, "10.1.0.0/16 10.3.0.0/16 10.6.0.0/16 10.8.0.0/16 fd01::/32 fd02::/32 fd07::/64"},
				} {
					if got := words(slices.Compact(sorted(s.Overlay(c.index)))); got != c.want {
						t.Errorf("interface %d: overlay %s, want %s", c.index, got, c.want)
					}
				}
				far := netip.MustParseAddr("192.0.2.20")
				if got := s.Remotes(78); len(got) != 2 || !slices.Contains(got, far) || !slices.Contains(got, far.Next()) {
					t.Errorf("remotes %v", got)
				}
				return nil
			})
		})
	}
}

func words(prefixes []netip.Prefix) (s string) {
	for i, p := range prefixes {
		if i > 0 {
			s += " "
		}
		s += p.String()
	}
	return s
}

var prefix10 = nl.Append([]byte{unix.AF_INET, 8, 0, 0, 0, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0}, unix.RTA_DST, []byte{10, 0, 0, 0})

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// hop is struct rtnexthop with the length that it is said to have.
func hop(size uint16, index uint32, attributes ...byte) []byte {
	b := append(binary.NativeEndian.AppendUint16(nil, size), 0, 0)
	return append(append(b, u32(index)...), attributes...)
}

// byObject is a route that names a nexthop object.
func byObject(id uint32) []byte { return nl.Append(slices.Clone(prefix10), 30, u32(id)) }

// anObject is a message of RTM_NEWNEXTHOP; group are the objects in it.
func anObject(id, index uint32, group ...uint32) []byte {
	b := nl.Append([]byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0}, unix.NHA_ID, u32(id))
	if index != 0 {
		b = nl.Append(b, unix.NHA_OIF, u32(index))
	}
	var members []byte
	for _, m := range group {
		members = append(append(members, u32(m)...), 0, 0, 0, 0)
	}
	if len(members) > 0 {
		b[0] = unix.AF_UNSPEC
		b = nl.Append(b, unix.NHA_GROUP, members)
	}
	return b
}

func nexthopSeeds() [][3][]byte {
	hops := slices.Concat(hop(16, 3, nl.Append(nil, unix.RTA_GATEWAY, []byte{10, 9, 0, 2})...), hop(8, 4))
	entry := nl.Append(append([]byte{unix.AF_BRIDGE, 0, 0, 0, 7, 0, 0, 0}, 0, 0, 0, 0), 13, u32(20))
	return [][3][]byte{
		{nl.Append(slices.Clone(prefix10), unix.RTA_MULTIPATH, hops), nil, nil},
		{byObject(8), anObject(8, 0, 5, 6), anObject(5, 3)},
		{byObject(5), anObject(5, 3), anObject(6, 4)},
		{byObject(8), anObject(8, 0, 8), nil},
		{entry, nl.Append(anObject(20, 0), unix.NHA_GATEWAY, []byte{192, 0, 2, 20}), nil},
	}
}

// TestForgedNexthops: what lies is an error, what leaves open where packets go makes nothing known of any route, and costs no other list.
func TestForgedNexthops(t *testing.T) {
	const routes, objects = unix.RTM_GETROUTE, unix.RTM_GETNEXTHOP
	multi := func(hops ...[]byte) []byte {
		return nl.Append(slices.Clone(prefix10), unix.RTA_MULTIPATH, slices.Concat(hops...))
	}
	var broad []uint32
	for range 4000 {
		broad = append(broad, 7)
	}
	for _, c := range []struct {
		what     string
		route    []byte
		routes   int
		objects  [][]byte
		prefixes int // of interface 7
		refuse   error
		fails    bool
	}{
		{what: "two", route: multi(hop(8, 7), hop(8, 8)), prefixes: 1},
		{what: "twice the same", route: multi(hop(8, 7), hop(8, 7)), prefixes: 1},
		{what: "shorter than its header", route: multi(hop(8, 7), hop(4, 7)), fails: true},
		{what: "no length", route: multi(hop(0, 7)), fails: true},
		{what: "longer than the attribute", route: multi(hop(8, 7), hop(9, 7)), fails: true},
		{what: "longest", route: multi(hop(65535, 7)), fails: true},
		{what: "bytes behind the last", route: multi(hop(8, 7), []byte{8, 0, 0, 0}), fails: true},
		{what: "none", route: multi(), fails: true},
		{what: "attributes that lie", route: multi(hop(12, 7, 200, 0, 5, 0)), fails: true},
		{what: "no interface", route: multi(hop(8, 7), hop(8, 0))},
		{what: "nothing at all", route: prefix10},
		{what: "an index of two bytes", route: nl.Append(slices.Clone(prefix10), unix.RTA_OIF, []byte{7, 0}), fails: true},
		{what: "an object", route: byObject(5), objects: [][]byte{anObject(5, 7)}, prefixes: 1},
		{what: "an object that is not there", route: byObject(5), objects: [][]byte{anObject(6, 7)}},
		{what: "no objects", route: byObject(5)},
		{what: "a kernel without objects", route: byObject(5), refuse: unix.EOPNOTSUPP},
		{what: "objects refused", route: byObject(5), refuse: unix.EPERM, fails: true},
		{what: "a blackhole", route: byObject(5), objects: [][]byte{anObject(5, 0)}},
		{what: "a group", route: byObject(8), objects: [][]byte{anObject(6, 9), anObject(8, 0, 6, 5), anObject(5, 7)}, prefixes: 1},
		{what: "a group with one that is not there", route: byObject(8), objects: [][]byte{anObject(8, 0, 5, 6), anObject(5, 7)}},
		{what: "a group of groups", route: byObject(8), objects: [][]byte{anObject(8, 0, 9), anObject(9, 0, 5), anObject(5, 7)}},
		{what: "a group of itself", route: byObject(8), objects: [][]byte{anObject(8, 0, 8)}},
		{what: "half a member", route: byObject(8), objects: [][]byte{nl.Append(anObject(8, 0), unix.NHA_GROUP, make([]byte, 12))}, fails: true},
		{what: "an object without a number", route: byObject(8), objects: [][]byte{nl.Append(make([]byte, 8), unix.NHA_OIF, u32(7))}, fails: true},
		{what: "cut off", route: byObject(8), objects: [][]byte{anObject(8, 7)[:21]}, fails: true},
		{what: "routes times members", route: byObject(8), routes: maxSurroundings, objects: [][]byte{anObject(8, 0, broad...), anObject(7, 7)}},
	} {
		s, err := ReadSurroundings(t.Context(), func() (nl.Socket, error) {
			none := 0
			return &listing{
				answers: map[netlink.HeaderType][]byte{routes: c.route, unix.RTM_GETADDR: linkMessage(unix.AF_INET, unix.SizeofIfAddrmsg, unix.IFA_ADDRESS, []byte{1, 2, 3, 4})},
				times:   map[netlink.HeaderType]int{routes: max(c.routes, 1), unix.RTM_GETADDR: 1, objects: len(c.objects)},
				several: map[netlink.HeaderType][][]byte{objects: c.objects},
				refused: map[netlink.HeaderType]error{objects: c.refuse}, interrupted: &none,
			}, nil
		})
		if c.fails != (err != nil) || c.refuse != nil && c.fails && !errors.Is(err, c.refuse) {
			t.Errorf("%s: %v, %v", c.what, s, err)
		}
		if err != nil {
			continue
		}
		if len(s.Overlay(7)) != c.prefixes || len(s.Addrs(7)) != 1 || c.prefixes == 0 && len(s.routes) != 0 {
			t.Errorf("%s: %d prefixes, want %d; all: %v; addresses %v", c.what, len(s.Overlay(7)), c.prefixes, s.routes, s.Addrs(7))
		}
	}
}
