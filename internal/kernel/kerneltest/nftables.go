package kerneltest

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// OpenNFTables is an opener of natrules.
func (k *Kernel) OpenNFTables() (nl.Socket, error) { return k.messages(NFTables, k.nftables) }

// nftables answers with one table, one chain at the postrouting hook and one rule in it: what carries kube-proxy's mark
// is masqueraded, fully random (include/uapi/linux/netfilter/nf_tables.h).
func (k *Kernel) nftables(m netlink.Message) ([]netlink.Message, error) {
	if k.Old { // nfnetlink_rcv_msg, for a subsystem that is not there
		return nil, unix.EINVAL
	}
	const newTable, newChain, newRule, newGen = 0, 3, 6, 15
	be32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	message := func(kind uint16, attrs []byte) []netlink.Message {
		return []netlink.Message{{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)},
			Data:   append([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, attrs...),
		}}
	}
	table := nl.Append(nil, 1, "nat\x00")
	switch uint16(m.Header.Type) & 0xff {
	case 1: // NFT_MSG_GETTABLE
		return message(newTable, nl.Append(table, 2, be32(0))), nil
	case 4: // NFT_MSG_GETCHAIN
		chain := nl.Append(nl.Append(table, 2, binary.BigEndian.AppendUint64(nil, 1)), 3, "POSTROUTING\x00")
		chain = nested(chain, 4, nl.Append(nl.Append(nil, 1, be32(unix.NF_INET_POST_ROUTING)), 2, be32(100)))
		return message(newChain, nl.Append(nl.Append(chain, 5, be32(1)), 7, "nat\x00")), nil
	case 7: // NFT_MSG_GETRULE
		const mark, and, equal = 3, 0x4000, 0 // NFT_META_MARK, kube-proxy's bit, NFT_CMP_EQ
		value := func(v uint32) []byte { return nl.Append(nil, 1, binary.NativeEndian.AppendUint32(nil, v)) }
		type expr struct {
			name string
			data []byte
		}
		rule := func(exprs ...expr) []netlink.Message {
			var all []byte
			for _, e := range exprs {
				all = nested(all, 1, nested(nl.Append(nil, 1, e.name), 2, e.data))
			}
			return message(newRule, nested(nl.Append(table, 2, "POSTROUTING\x00"), 4, all))
		}
		destination := func(length uint32) expr {
			const network, daddr = 1, 16 // NFT_PAYLOAD_NETWORK_HEADER, its offset of the destination
			place := nl.Append(nl.Append(nl.Append(nil, 1, be32(1)), 2, be32(network)), 3, be32(daddr))
			return expr{"payload\x00", nl.Append(place, 4, be32(length))}
		}
		is := func(address []byte) expr {
			return expr{"cmp\x00", nested(nl.Append(nl.Append(nil, 1, be32(1)), 2, be32(equal)), 3, nl.Append(nil, 1, address))}
		}
		var rules []netlink.Message
		const accept = 1 // NF_ACCEPT
		end := expr{"immediate\x00", nested(nl.Append(nil, 1, be32(0)), 2, nested(nil, 2, nl.Append(nil, 1, be32(accept))))}
		if k.ByRemote {
			rules = rule(destination(4), is(Remote().AsSlice()), end)
		}
		if k.BySet {
			// struct xt_set_info_match_v1 {u16 index; u8 dim, flags}: one dimension, the destination.
			info := append(binary.NativeEndian.AppendUint16(nil, setIndex), 1, 0, 0, 0, 0, 0)
			rules = rule(expr{"match\x00", nl.Append(nl.Append(nl.Append(nil, 1, "set\x00"), 2, be32(1)), 3, info)}, end)
		}
		if k.ByOverlay {
			zero := nested(nl.Append(nil, 1, be32(1)), 2, value(0))
			rules = rule(destination(2), is([]byte{10, 244}), expr{"immediate\x00", zero},
				expr{"meta\x00", nl.Append(nl.Append(nil, 2, be32(mark)), 3, be32(1))})
		}
		return append(rules, rule([]expr{
			{"meta\x00", nl.Append(nl.Append(nil, 2, be32(mark)), 1, be32(1))},
			{"bitwise\x00", nested(nested(nl.Append(nl.Append(nl.Append(nil, 1, be32(1)), 2, be32(1)), 3, be32(4)), 4,
				value(and)), 5, value(0))},
			{"cmp\x00", nested(nl.Append(nl.Append(nil, 1, be32(1)), 2, be32(equal)), 3, value(and))},
			{"masq\x00", nl.Append(nil, 1, be32(0x10))},
		}...)...), nil
	case 16: // NFT_MSG_GETGEN
		return message(newGen, nl.Append(nil, 1, be32(7))), nil
	}
	return nil, unix.ENOENT
}

func nested(b []byte, typ uint16, in []byte) []byte {
	return nl.Append(b, typ|unix.NLA_F_NESTED, in)
}
