package conntrack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Numbers of ctnetlink (include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h). The filter's bits are not
// in a uapi header: CTA_FILTER_F_* in net/netfilter/nf_internals.h.
const (
	msgNew      = unix.NFNL_SUBSYS_CTNETLINK << 8   // IPCTNL_MSG_CT_NEW
	msgGet      = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	msgGetStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5 // IPCTNL_MSG_CT_GET_STATS

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaTimeout    = 7
	ctaID         = 12
	ctaZone       = 18
	ctaFilter     = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3

	ctaFilterOrigFlags = 1

	filterProtoNum = 1 << 3 // CTA_FILTER_F_CTA_PROTO_NUM

	sizeofNlMsghdr = 16
	sizeofNfGenMsg = 4
)

// dump is one request to the kernel.
type dump struct {
	family uint8 // AF_UNSPEC: all; the mere family is a filter since 2.6.21, and sets no flag before 5.8
	udp    bool  // ask for UDP only
	totals bool  // ask for nothing but the table's totals: whether this process may ask at all, at no cost to anybody
}

// appendRequest appends the request for d. A filter is honored since 5.8 (cb8aa9a3affb, "netfilter: ctnetlink: add
// kernel side filtering for dump") and silently ignored before; it must name a family.
func appendRequest(b []byte, d dump, seq, portID uint32) []byte {
	typ, flags := uint16(msgGet), uint16(unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if d.totals {
		typ, flags = msgGetStats, unix.NLM_F_REQUEST
	}
	start := len(b)
	b = binary.NativeEndian.AppendUint32(b, sizeofNlMsghdr+sizeofNfGenMsg)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, portID)
	b = append(b, d.family, unix.NFNETLINK_V0, 0, 0)
	if d.udp {
		proto := nl.Append(nil, ctaProtoNum, []byte{unix.IPPROTO_UDP})
		b = nl.Append(b, ctaTupleOrig|nl.Nested, nl.Append(nil, ctaTupleProto|nl.Nested, proto))
		// In host order, unlike all else here.
		what := nl.Append(nil, ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, filterProtoNum))
		b = nl.Append(b, ctaFilter|nl.Nested, what)
		binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	}
	return b
}
