package natrules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// maxSurroundings bounds how many entries of the forwarding database, routes and addresses are kept. A longer list is
// given up: what it would tell is not known then, so that no rule is judged by half of the facts.
const maxSurroundings = 65536

const sizeofRuleHdr = 12 // struct fib_rule_hdr

// Why a list is given up.
var (
	errTooMany = errors.New("too many entries")
	errUntold  = errors.New("an entry does not tell where packets go")
)

// Surroundings are facts about packets that only this namespace's interfaces, addresses, routes and forwarding
// databases tell, by interface index. The zero value knows nothing.
type Surroundings struct {
	links   map[int]rtnl.Link
	addrs   map[int][]rtnl.Address
	remotes map[int][]rtnl.Neighbor // tunnel endpoints
	routes  map[int][]ifroute       // nil: not known

	rules, marks bool // there are policy rules of this node's own; some ask for a mark
	sources6     bool // an IPv6 route names the source address of its packets

	localPorts PortRange              // of sockets; zero: not known
	forwards6  func(name string) bool // IPv6 packets that came in by an interface are forwarded; nil: not known

	conn *rtnl.Conn // for questions about single packets; nil: none can be asked
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
	return &gathering{
		Surroundings: Surroundings{
			links: map[int]rtnl.Link{}, addrs: map[int][]rtnl.Address{}, remotes: map[int][]rtnl.Neighbor{},
			routes: map[int][]ifroute{},
		},
		routesBy: map[uint32][]ifroute{}, entriesBy: map[uint32][]int{}, objects: map[uint32]nexthop{},
	}
}

// list is one dump. Lists of all families have others than IP too (AF_MPLS, RTNL_FAMILY_IPMR, AF_MCTP), which are
// passed over.
type list struct {
	what     string
	request  netlink.HeaderType // the answers' type is 2 less: RTM_GET* follows RTM_NEW* and RTM_DEL*
	data     []byte
	families []byte
	reset    func()
	each     func([]byte) error
}

func (g *gathering) lists() []list {
	ip, every := []byte{unix.AF_INET, unix.AF_INET6}, []byte{unix.AF_UNSPEC, unix.AF_INET, unix.AF_INET6}
	bridge := append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...)
	forgetRules, forgetObjects := func() { g.rules, g.marks = false, false }, func() { clear(g.objects) }
	return []list{
		{"interfaces", unix.RTM_GETLINK, rtnl.LinkRequest(0), every[:1], func() { clear(g.links) }, g.link},
		{"addresses", unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), ip, func() { clear(g.addrs) }, g.address},
		{"forwarding databases", unix.RTM_GETNEIGH, bridge, bridge[:1], g.forgetRemotes, g.forwarding},
		{"routes", unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg), ip, g.forgetRoutes, g.route},
		{"policy rules", unix.RTM_GETRULE, make([]byte, sizeofRuleHdr), ip, forgetRules, g.rule},
		{"nexthop objects", unix.RTM_GETNEXTHOP, make([]byte, unix.SizeofNhmsg), every, forgetObjects, g.object},
	}
}

func (g *gathering) forgetRemotes() { clear(g.remotes); clear(g.entriesBy) }

func (g *gathering) forgetRoutes() { clear(g.routes); clear(g.routesBy); g.sources6 = false }

// ReadSurroundings reads them over rtnetlink, which needs no privilege. Each list has a socket of its own, in the
// network namespace of the calling thread. A list that cannot be read to its end is an error; of one that leaves open
// where some packets go nothing is kept.
func ReadSurroundings(ctx context.Context, open nl.Opener) (*Surroundings, error) {
	g := newGathering()
	for _, l := range g.lists() {
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
	reset := func() {
		g.kept = 0
		l.reset()
	}
	err = conn.Dump(l.request, l.request-2, l.data, reset, l.take)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooMany), errors.Is(err, errUntold),
		(l.request == unix.RTM_GETNEXTHOP || l.request == unix.RTM_GETRULE) && errors.Is(err, errors.ErrUnsupported):
		reset() // so that nothing rests on half of it
		if l.request == unix.RTM_GETROUTE {
			g.routes = nil
		}
		return nil
	default:
		return fmt.Errorf("rtnetlink: %w", err)
	}
}

func (l list) take(b []byte) error {
	switch {
	case len(b) == 0:
		return nl.ErrMalformed
	case !slices.Contains(l.families, b[0]):
		return nil
	default:
		return l.each(b)
	}
}

// keep counts what is kept of a list.
func (g *gathering) keep(n int) error {
	if g.kept += n; g.kept > maxSurroundings {
		return errTooMany
	}
	return nil
}

// own are the addresses of all interfaces.
func (s *Surroundings) own() []netip.Addr {
	var all []netip.Addr
	for index := range s.addrs {
		all = append(all, s.Addrs(index)...)
	}
	return all
}

// Addrs are the addresses of an interface.
func (s *Surroundings) Addrs(index int) []netip.Addr {
	var all []netip.Addr
	for _, a := range s.addrs[index] {
		all = append(all, a.Addr)
	}
	return all
}

// PortRange are ports from First to Last.
type PortRange struct{ First, Last uint16 }

// ReadSysctls reads, under a procfs, what the network namespace of the calling thread is set to. What cannot be read
// stays unknown.
func (s *Surroundings) ReadSysctls(proc string) {
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(proc, "sys/net", name))
		return strings.TrimSpace(string(b))
	}
	_, _ = fmt.Sscan(read("ipv4/ip_local_port_range"), &s.localPorts.First, &s.localPorts.Last)
	s.forwards6 = func(name string) bool { // net/ipv6/ip6_output.c, ip6_forward; force_forwarding from 6.17
		return read("ipv6/conf/all/forwarding") != "0" || read(filepath.Join("ipv6/conf", name, "force_forwarding")) == "1"
	}
}

// sourcePorts are those of a device's outer packets: its own range, or that of sockets; the last is never taken
// (include/net/udp.h, udp_flow_src_port). ok is false where they are not known.
func (s *Surroundings) sourcePorts(index int) (p PortRange, ok bool) {
	l := s.links[index]
	p = PortRange{l.FirstPort, l.LastPort}
	if p.First >= p.Last {
		p = s.localPorts
	}
	if p.First >= p.Last {
		return p, false
	}
	p.Last--
	return p, true
}
