// Package kerneltest is a kernel in memory, for tests: one node with two VXLAN devices over one NIC, flows of which
// some are NATed, and kube-proxy's old NAT rules. It answers every interface that the readers speak, as a kernel of
// 2026 or one of 2013 does, and breaks each of them in the ways that kernels break.
package kerneltest

import (
	"net/netip"
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
)

// Source is one of the interfaces of the kernel.
type Source string

// The interfaces.
const (
	Route     Source = "rtnetlink"
	Ioctl     Source = "SIOCETHTOOL"
	Generic   Source = "generic netlink"
	Conntrack Source = "ctnetlink"
	Counters  Source = "counters of ctnetlink"
	NFTables  Source = "nf_tables"
	Legacy    Source = "ip_tables"
	Packets   Source = "packet socket"

	Surroundings Source = "addresses, forwarding databases and routes"
	Nexthops     Source = "nexthop objects" // asked for over a socket of Surroundings
	IPSets       Source = "ip sets"
	IPSetNames   Source = "SO_IP_SET" // asked for over a socket of Legacy
)

// Kernel is the kernel. Make it with New.
type Kernel struct {
	// Old makes it Linux 3.10: no filter in a dump of links or of flows is honored, VXLAN devices have no attributes about
	// checksums, there is no generic netlink family "ethtool", no nf_tables, no SKF_AD_RANDOM and no
	// PACKET_IGNORE_OUTGOING, and netlink sockets know no NETLINK_GET_STRICT_CHK.
	Old bool
	// ByRemote adds a rule of nf_tables that takes what is sent to Remote out of the NAT rules.
	ByRemote bool
	// BySet is the same with a rule by an ip set, as iptables-nft makes them.
	BySet bool
	// ByOverlay adds a rule of nf_tables that clears the mark of what is sent into the tunnels, and has the routes name
	// nexthop objects.
	ByOverlay bool

	flows conntracktest.Kernel

	mu      sync.Mutex
	faults  map[Source]Fault
	changed chan struct{} // closed and replaced when a fault comes or goes
	gone    map[string]bool
	open    map[Source]int
	broken  int // packet sockets that a fault has broken while they were read
}

// Names and numbers of what there is.
const (
	NIC       = "eth0"
	Flannel   = "flannel.1" // names its NIC
	ByAddress = "vxlan5"    // finds its NIC by its address
	Port      = 8472        // of Flannel
	IANAPort  = 4789        // of ByAddress
)

// New makes a kernel that works.
func New() *Kernel {
	k := &Kernel{faults: map[Source]Fault{}, changed: make(chan struct{}), gone: map[string]bool{}, open: map[Source]int{}}
	for i := range 6 {
		f := conntracktest.VXLAN(i, Port)
		if i < 2 {
			f.Source = netip.AddrPortFrom(Address(), f.Source.Port()+uint16(i))
			f.ReplyDestination = f.WithSNAT().SNAT
		}
		k.flows.Flows = append(k.flows.Flows, f, conntracktest.TCP(i), conntracktest.VXLAN(100+i, IANAPort))
	}
	return k
}

// Break makes an interface fail from now on, sockets that are open included.
func (k *Kernel) Break(s Source, f Fault) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults[s] = f
	k.notify()
}

// Mend ends what Break began.
func (k *Kernel) Mend(s Source) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.faults, s)
	k.notify()
}

// Remove takes a network device away; Restore brings it back.
func (k *Kernel) Remove(name string) { k.setGone(name, true) }

// Restore brings back what Remove took away.
func (k *Kernel) Restore(name string) { k.setGone(name, false) }

func (k *Kernel) setGone(name string, gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone[name] = gone
	k.notify()
}

// notify wakes whoever waits. k.mu is held.
func (k *Kernel) notify() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// Sockets is how many sockets are open.
func (k *Kernel) Sockets() map[Source]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	open := map[Source]int{}
	for s, n := range k.open {
		if n != 0 {
			open[s] = n
		}
	}
	return open
}

// BrokenPacketSockets is how often reading a packet socket has failed by a fault.
func (k *Kernel) BrokenPacketSockets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.broken
}

func (k *Kernel) fault(s Source) (f Fault, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.faults[s], k.changed
}

func (k *Kernel) isGone(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gone[name]
}

// opened counts a socket that is opened, or fails as the fault has it.
func (k *Kernel) opened(s Source) error {
	f, _ := k.fault(s)
	if f.Open != nil {
		return f.Open
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[s]++
	return nil
}

func (k *Kernel) closed(s Source) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[s]--
}

// deadline is the deadline of a socket, which may be set while somebody waits.
type deadline struct {
	mu      sync.Mutex
	until   time.Time
	changed chan struct{}
}

// SetDeadline is that of a socket.
func (d *deadline) SetDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = t
	if d.changed != nil {
		close(d.changed)
	}
	d.changed = make(chan struct{})
	return nil
}

// wait returns true once the deadline has passed, false when done is closed before.
func (d *deadline) wait(done <-chan struct{}) bool {
	for {
		d.mu.Lock()
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		until, changed := d.until, d.changed
		d.mu.Unlock()
		var timer <-chan time.Time
		if !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return true
			}
			timer = time.After(left)
		}
		select {
		case <-timer:
			return true
		case <-changed:
		case <-done:
			return false
		}
	}
}

func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.until.IsZero() && !time.Now().Before(d.until)
}
