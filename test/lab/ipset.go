package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// loopBackSet is the IP set by which kube-proxy's ipvs mode knows a pod that talks to itself through a service
// (pkg/proxy/ipvs/ipset.go).
func loopBackSet(f Family) string {
	if f == IPv6 {
		return "KUBE-6-LOOP-BACK"
	}
	return "KUBE-LOOP-BACK"
}

// applySets makes the IP sets that the rules name. A set that is no longer named does no harm, and lives as long as its
// namespace.
func (r *Rig) applySets() error {
	if r.opts.Rules != RulesIPVS {
		return nil
	}
	return r.A.Do(func() error {
		for f, family := range map[Family]uint8{IPv4: unix.AF_INET, IPv6: unix.AF_INET6} {
			err := netlink.IpsetCreate(loopBackSet(f), "hash:ip,port,ip", netlink.IpsetCreateOptions{
				Replace: true,
				Family:  family,
			})
			if err != nil {
				return fmt.Errorf("create IP set %s: %w", loopBackSet(f), err)
			}
		}
		protocol, port, pod := uint8(unix.IPPROTO_TCP), PodPort, net.IP(r.PodIP.AsSlice())
		err := netlink.IpsetAdd(loopBackSet(IPv4), &netlink.IPSetEntry{
			Replace: true, IP: pod, Protocol: &protocol,
			Port: &port, IP2: pod,
		})
		if err != nil {
			return fmt.Errorf("add the pod to IP set %s: %w", loopBackSet(IPv4), err)
		}
		return nil
	})
}
