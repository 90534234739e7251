package natrules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// maxSurroundings bounds how many entries of the forwarding database, routes and addresses are kept. A longer list is given up: what
// it would tell is not known then, so that no rule is judged by half of the facts.
const maxSurroundings = 65536

// Why a list is given up.
var (
	errTooMany = errors.New("too many entries")
	errUntold  = errors.New("an entry does not tell where packets go")
)

// Surroundings are facts about packets that only this namespace's addresses, routes and forwarding databases tell, by interface
// index. The zero value knows nothing.
type Surroundings struct {
	addrs   map[int][]netip.Addr
	remotes map[int][]netip.Addr
	overlay map[int][]netip.Prefix
}

// gathering is Surroundings under way: an entry that names a nexthop object tells where packets go only once those are read too.
type gathering struct {
	Surroundings
	kept      int // of the list that is being read
	routesBy  map[uint32][]netip.Prefix
	entriesBy map[uint32][]int // by nexthop object, the devices whose forwarding databases name it
	objects   map[uint32]nexthop
}

func newGathering() *gathering {
	g := &gathering{}
	for _, forget := range []func(){g.forgetAddresses, g.forgetForwarding, g.forgetRoutes, g.forgetObjects} {
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

// ReadSurroundings reads them over rtnetlink, which needs no privilege. Each list has a socket of its own, in the network namespace of
// the calling thread. A list that cannot be read to its end is an error; of one that leaves open where some packets go nothing is kept.
func ReadSurroundings(ctx context.Context, open nl.Opener) (*Surroundings, error) {
	g := newGathering()
	for _, l := range []list{
		{
			"addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, make([]byte, unix.SizeofIfAddrmsg),
			g.forgetAddresses, g.address,
		},
		{
			"forwarding databases", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...),
			g.forgetForwarding, g.forwarding,
		},
		{
			"routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, make([]byte, unix.SizeofRtMsg),
			g.forgetRoutes, g.route,
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
	case errors.Is(err, errTooMany), errors.Is(err, errUntold), l.request == unix.RTM_GETNEXTHOP && errors.Is(err, errors.ErrUnsupported):
		l.reset() // so that nothing rests on half of it
		return nil
	default:
		return fmt.Errorf("rtnetlink: %w", err)
	}
}

func (g *gathering) forgetAddresses() { g.kept, g.addrs = 0, map[int][]netip.Addr{} }

func (g *gathering) forgetForwarding() {
	g.kept, g.remotes, g.entriesBy = 0, map[int][]netip.Addr{}, map[uint32][]int{}
}

func (g *gathering) forgetRoutes() {
	g.kept, g.overlay, g.routesBy = 0, map[int][]netip.Prefix{}, map[uint32][]netip.Prefix{}
}

func (g *gathering) forgetObjects() { g.kept, g.objects = 0, map[uint32]nexthop{} }

// keep counts what is kept of a list.
func (g *gathering) keep(n int) error {
	if g.kept += n; g.kept > maxSurroundings {
		return errTooMany
	}
	return nil
}

// Addrs are the addresses of an interface.
func (s *Surroundings) Addrs(index int) []netip.Addr { return s.addrs[index] }

// Bearer is the index of the interface that has an address; 0 when none has.
func (s *Surroundings) Bearer(addr netip.Addr) int {
	for index, addrs := range s.addrs {
		if slices.Contains(addrs, addr) {
			return index
		}
	}
	return 0
}

// Remotes are the tunnel endpoints in the forwarding database of a VXLAN device.
func (s *Surroundings) Remotes(index int) []netip.Addr { return s.remotes[index] }

// Overlay are the prefixes that are routed into an interface.
func (s *Surroundings) Overlay(index int) []netip.Prefix { return s.overlay[index] }
