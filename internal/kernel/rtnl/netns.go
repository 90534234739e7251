package rtnl

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// NamespaceID is the number by which this network namespace knows the one that fd refers to, as in IFLA_LINK_NETNSID;
// -1 when it has none for it (RTM_GETNSID, net/core/net_namespace.c, since Linux 4.0).
func (c *Conn) NamespaceID(fd int) (int32, error) {
	const sizeofRtGenMsg = 4 // struct rtgenmsg, padded
	request := nl.Append(make([]byte, sizeofRtGenMsg), unix.NETNSA_FD, number(fd))
	reply, err := c.Get(unix.RTM_GETNSID, unix.RTM_NEWNSID, request)
	if err != nil {
		return -1, fmt.Errorf("rtnetlink: namespace id: %w", err)
	}
	for typ, value := range nl.Attrs(reply[min(sizeofRtGenMsg, len(reply)):]) {
		if typ == unix.NETNSA_NSID && len(value) == 4 {
			return int32(binary.NativeEndian.Uint32(value)), nil //nolint:gosec // a signed number
		}
	}
	return -1, nil
}
