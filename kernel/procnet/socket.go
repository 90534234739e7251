package procnet

// Socket is one of the kernel's own UDP sockets as /proc/net/udp and udp6 show it: uid 0, an inode, no process (net/ipv4/udp.c,
// udp4_format_sock).
type Socket struct {
	Family string `json:"family"` // ipv4 or ipv6
	Port   uint16 `json:"port"`   // host byte order
	Inode  uint64 `json:"inode"`  // changes when the device goes down and up, and Drops restarts at 0
	Drops  uint64 `json:"drops"`  // sk_drops
}
