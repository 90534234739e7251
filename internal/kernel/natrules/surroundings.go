package natrules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// maxSurroundings bounds how many entries of the forwarding database, routes and addresses are kept. A longer list is
// given up: what it would tell is not known then, so that no rule is judged by half of the facts.
const maxSurroundings = 65536

// Why a list is given up.
var (
	errTooMany = errors.New("too many entries")
	errUntold  = errors.New("an entry does not tell where packets go")
)

// Surroundings are facts about packets that only this namespace's interfaces, addresses, routes and forwarding
// databases tell, by interface index. The zero value knows nothing.
type Surroundings struct {
	links   map[int]link
	addrs   map[int][]ifaddr
	remotes map[int][]remote
	routes  map[int][]ifroute // nil: not known

	rules, marks bool // there are policy rules of this node's own; some ask for a mark
	sources6     bool // an IPv6 route names the source address of its packets

	localPorts PortRange              // of sockets; zero: not known
	forwards6  func(name string) bool // IPv6 packets that came in by an interface are forwarded; nil: not known

	conn *rtnl.Conn // for questions about single packets; nil: none can be asked
}

// link is an interface of any kind.
type link struct {
	name   string
	flags  uint32    // IFF_*
	master int       // IFLA_MASTER: the bridge, bond or VRF that it belongs to
	lower  int       // IFLA_LINK: what a VLAN, for example, is made on
	vrf    bool      // its master is a VRF
	device bool      // it is a device of a bus: a NIC
	bridge bool      // it has nobody behind it without ports
	ports  PortRange // IFLA_VXLAN_PORT_RANGE
}

// ifaddr is an address of an interface.
type ifaddr struct {
	netip.Prefix
	flags uint32 // IFA_F_*
	scope uint8
}

// remote is a tunnel endpoint, and the interface that packets to it must leave by, if any.
type remote struct {
	netip.Addr
	out  int
	port uint16 // 0: the device's
}

// ifroute is what is routed into an interface. static: not by the kernel itself, as to what an address is connected to.
type ifroute struct {
	netip.Prefix
	static bool
}

// gathering is Surroundings under way: an entry that names a nexthop object tells where packets go only once those are
// read too.
type gathering struct {
	Surroundings
	kept      int // of the list that is being read
	routesBy  map[uint32][]ifroute
	entriesBy map[uint32][]int // by nexthop object, the devices whose forwarding databases name it
	objects   map[uint32]nexthop
}

func newGathering() *gathering {
	g := &gathering{}
	for _, forget := range []func(){
		g.forgetLinks, g.forgetAddresses, g.forgetForwarding, g.forgetRoutes, g.forgetRules, g.forgetObjects,
	} {
		forget()
	}
	return g
}

// list is one dump.
type list struct {
	what           string
	request, reply netlink.HeaderType
	data           []byte
	reset          func()
	each           func([]byte) error
}

// ReadSurroundings reads them over rtnetlink, which needs no privilege. Each list has a socket of its own, in the
// network namespace of the calling thread. A list that cannot be read to its end is an error; of one that leaves open
// where some packets go nothing is kept.
func ReadSurroundings(ctx context.Context, open nl.Opener) (*Surroundings, error) {
	g := newGathering()
	for _, l := range []list{
		{
			"interfaces", unix.RTM_GETLINK, unix.RTM_NEWLINK, linkRequest(),
			g.forgetLinks, g.link,
		},
		{
			"addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, make([]byte, unix.SizeofIfAddrmsg),
			g.forgetAddresses, g.address,
		},
		{
			"forwarding databases", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH,
			append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...), g.forgetForwarding, g.forwarding,
		},
		{
			"routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, make([]byte, unix.SizeofRtMsg),
			g.forgetRoutes, g.route,
		},
		{
			"policy rules", unix.RTM_GETRULE, unix.RTM_NEWRULE, make([]byte, sizeofRuleHdr),
			g.forgetRules, g.rule,
		},
		{
			"nexthop objects", unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, make([]byte, unix.SizeofNhmsg),
			g.forgetObjects, g.object,
		},
	} {
		if l.request == unix.RTM_GETNEXTHOP && len(g.routesBy)+len(g.entriesBy) == 0 {
			break
		}
		if err := g.read(ctx, open, l); err != nil {
			return nil, fmt.Errorf("%s: %w", l.what, err)
		}
	}
	g.resolve()
	return &g.Surroundings, nil
}

// Ask makes it possible to ask about single packets, until Close.
func (s *Surroundings) Ask(ctx context.Context, open nl.Opener) (err error) {
	s.conn, err = rtnl.Dial(ctx, open)
	return err
}

// Close ends the questions.
func (s *Surroundings) Close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

func (g *gathering) read(ctx context.Context, open nl.Opener, l list) error {
	conn, err := rtnl.Dial(ctx, open)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	err = conn.Dump(l.request, l.reply, l.data, l.reset, l.each)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooMany), errors.Is(err, errUntold),
		(l.request == unix.RTM_GETNEXTHOP || l.request == unix.RTM_GETRULE) && errors.Is(err, errors.ErrUnsupported):
		l.reset() // so that nothing rests on half of it
		if l.request == unix.RTM_GETROUTE {
			g.routes = nil
		}
		return nil
	default:
		return fmt.Errorf("rtnetlink: %w", err)
	}
}

func (g *gathering) forgetLinks() { g.kept, g.links = 0, map[int]link{} }

func (g *gathering) forgetAddresses() { g.kept, g.addrs = 0, map[int][]ifaddr{} }

func (g *gathering) forgetForwarding() {
	g.kept, g.remotes, g.entriesBy = 0, map[int][]remote{}, map[uint32][]int{}
}

func (g *gathering) forgetRoutes() {
	g.kept, g.routes, g.routesBy, g.sources6 = 0, map[int][]ifroute{}, map[uint32][]ifroute{}, false
}

func (g *gathering) forgetRules() { g.rules, g.marks = false, false }

func (g *gathering) forgetObjects() { g.kept, g.objects = 0, map[uint32]nexthop{} }

// keep counts what is kept of a list.
func (g *gathering) keep(n int) error {
	if g.kept += n; g.kept > maxSurroundings {
		return errTooMany
	}
	return nil
}

// Addrs are the addresses of an interface.
func (s *Surroundings) Addrs(index int) []netip.Addr {
	var all []netip.Addr
	for _, a := range s.addrs[index] {
		all = append(all, a.Addr())
	}
	return all
}
