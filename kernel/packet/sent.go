package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errNoStats is an answer without counters.
var errNoStats = errors.New("no IFLA_STATS64 in the answer")

// Sent asks over rtnetlink how many packets an interface has sent: tx_packets of struct rtnl_link_stats64,
// include/uapi/linux/if_link.h.
func (s *packetSocket) Sent(index int) (uint64, error) {
	if s.route == nil {
		return 0, fmt.Errorf("rtnetlink: %w", s.routeErr)
	}
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	answers, err := s.route.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: request,
	})
	if err != nil {
		return 0, fmt.Errorf("rtnetlink: link %d: %w", index, err)
	}
	for _, a := range answers {
		if a.Header.Type == unix.RTM_NEWLINK {
			return sentPackets(a.Data)
		}
	}
	return 0, fmt.Errorf("rtnetlink: link %d: %w", index, errNoStats)
}

// sentPackets finds tx_packets in an RTM_NEWLINK message.
func sentPackets(data []byte) (uint64, error) {
	if len(data) < unix.SizeofIfInfomsg {
		return 0, errNoStats
	}
	ad, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return 0, fmt.Errorf("rtnetlink: %w", err)
	}
	for ad.Next() {
		if b := ad.Bytes(); ad.Type() == unix.IFLA_STATS64 && len(b) >= 16 {
			return binary.NativeEndian.Uint64(b[8:]), nil
		}
	}
	return 0, errors.Join(errNoStats, ad.Err())
}
