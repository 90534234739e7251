package selftest

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

const (
	natTable = "selftest\x00"
	natChain = "out\x00"
	// priority is one before NF_IP_PRI_NAT_SRC (include/uapi/linux/netfilter_ipv4.h). Before 4.18 the first NAT hook that
	// sees a flow binds it, and up to 4.5 those of ip_tables, at 100, are in every namespace as soon as iptable_nat is
	// loaded.
	priority = 99
)

// addNAT makes one rule in the namespace: UDP packets from port from to port to leave from source port into. In nft's
// words:
//
//	table FAMILY selftest { chain out {
//	  type nat hook postrouting priority 99; udp sport FROM udp dport TO snat to :INTO
//	} }
func addNAT(deadline time.Time, family uint8, from, to, into uint16) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return plain(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	// One batch (net/netfilter/nfnetlink.c). Only the rule's message asks for an acknowledgement: errors come in any case.
	const nft = unix.NFNL_SUBSYS_NFTABLES << 8
	batch := nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	_, err = conn.SendMessages([]netlink.Message{
		batchMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, batch),
		batchMessage(nft|unix.NFT_MSG_NEWTABLE, netlink.Create, nfgenmsg(family, 0), attr(unix.NFTA_TABLE_NAME, natTable)),
		batchMessage(nft|unix.NFT_MSG_NEWCHAIN, netlink.Create, nfgenmsg(family, 0),
			attr(unix.NFTA_CHAIN_TABLE, natTable), attr(unix.NFTA_CHAIN_NAME, natChain), attr(unix.NFTA_CHAIN_TYPE, "nat\x00"),
			nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_POST_ROUTING),
				number(unix.NFTA_HOOK_PRIORITY, priority))),
		batchMessage(nft|unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append|netlink.Acknowledge, nfgenmsg(family, 0),
			attr(unix.NFTA_RULE_TABLE, natTable), attr(unix.NFTA_RULE_CHAIN, natChain),
			nested(unix.NFTA_RULE_EXPRESSIONS, expressions(family, from, to, into))),
		batchMessage(unix.NFNL_MSG_BATCH_END, 0, batch),
	})
	if err == nil {
		_, err = conn.Receive()
	}
	return plain(err)
}

func batchMessage(kind netlink.HeaderType, flags netlink.HeaderFlags, parts ...[]byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | flags},
		Data:   slices.Concat(parts...),
	}
}

// nfgenmsg is the fixed part of every nfnetlink message (include/uapi/linux/netfilter/nfnetlink.h).
func nfgenmsg(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// expressions are those of the rule (include/uapi/linux/netfilter/nf_tables.h), all through register 1.
func expressions(family uint8, from, to, into uint16) []byte {
	return slices.Concat(
		expression("meta", number(unix.NFTA_META_DREG, unix.NFT_REG_1), number(unix.NFTA_META_KEY, unix.NFT_META_L4PROTO)),
		compare([]byte{unix.IPPROTO_UDP}),
		// Both ports: the first four bytes of the UDP header.
		expression("payload", number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1),
			number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER),
			number(unix.NFTA_PAYLOAD_OFFSET, 0), number(unix.NFTA_PAYLOAD_LEN, 4)),
		compare(append(be16(from), be16(to)...)),
		expression("immediate", number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_1),
			value(unix.NFTA_IMMEDIATE_DATA, be16(into))),
		expression("nat", number(unix.NFTA_NAT_TYPE, unix.NFT_NAT_SNAT), number(unix.NFTA_NAT_FAMILY, uint32(family)),
			number(unix.NFTA_NAT_REG_PROTO_MIN, unix.NFT_REG_1)),
	)
}

func compare(want []byte) []byte {
	return expression("cmp", number(unix.NFTA_CMP_SREG, unix.NFT_REG_1), number(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ),
		value(unix.NFTA_CMP_DATA, want))
}

func expression(name string, parts ...[]byte) []byte {
	return nested(unix.NFTA_LIST_ELEM, attr(unix.NFTA_EXPR_NAME, name+"\x00"), nested(unix.NFTA_EXPR_DATA, parts...))
}

func value(kind uint16, b []byte) []byte { return nested(kind, attr(unix.NFTA_DATA_VALUE, b)) }

func number(kind uint16, v uint32) []byte { return attr(kind, binary.BigEndian.AppendUint32(nil, v)) }

func attr[T string | []byte](kind uint16, v T) []byte { return nl.Append(nil, kind, v) }

func nested(kind uint16, parts ...[]byte) []byte {
	return attr(nl.Nested|kind, slices.Concat(parts...))
}
