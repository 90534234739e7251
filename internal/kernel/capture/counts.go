package capture

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// errNoStats is an answer without counters.
var errNoStats = errors.New("no IFLA_STATS64 in the answer")

// Counts asks over rtnetlink: rx_packets and tx_packets of struct rtnl_link_stats64, include/uapi/linux/if_link.h.
func (s *packetSocket) Counts(index int) (Counts, error) {
	if s.route == nil {
		return Counts{}, fmt.Errorf("rtnetlink: %w", s.routeErr)
	}
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	answers, err := s.route.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: request,
	})
	if err != nil {
		return Counts{}, fmt.Errorf("rtnetlink: link %d: %w", index, err)
	}
	for _, a := range answers {
		if a.Header.Type == unix.RTM_NEWLINK {
			return packetCounts(a.Data)
		}
	}
	return Counts{}, fmt.Errorf("rtnetlink: link %d: %w", index, errNoStats)
}

// packetCounts finds the counters in an RTM_NEWLINK message.
func packetCounts(data []byte) (Counts, error) {
	if len(data) >= unix.SizeofIfInfomsg {
		for typ, b := range nl.Attrs(data[unix.SizeofIfInfomsg:]) {
			if typ == unix.IFLA_STATS64 && len(b) >= 16 {
				return Counts{binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[8:])}, nil
			}
		}
	}
	return Counts{}, errNoStats
}
