package natrules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

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
