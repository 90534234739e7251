package selftest

import (
	"encoding/binary"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	natTable = "selftest"
	natChain = "out"
	// priority is one before NF_IP_PRI_NAT_SRC (include/uapi/linux/netfilter_ipv4.h). Before 4.18 the first NAT hook that sees a flow
	// binds it, and up to 4.5 those of ip_tables, at 100, are in every namespace as soon as iptable_nat is loaded.
	priority = 99
)

// addNAT makes one rule in the namespace: UDP packets from port from to port to leave from source port into. In nft's words:
//
//	table FAMILY selftest { chain out { type nat hook postrouting priority 99; udp sport FROM udp dport TO snat to :INTO; } }
func addNAT(deadline time.Time, family uint8, from, to, into uint16) error {
	conn, err := dial(unix.NETLINK_NETFILTER, deadline)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	table, err := message(nfgenmsg(family, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, natTable)
	})
	if err != nil {
		return err
	}
	chain, err := message(nfgenmsg(family, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_CHAIN_TABLE, natTable)
		ae.String(unix.NFTA_CHAIN_NAME, natChain)
		ae.String(unix.NFTA_CHAIN_TYPE, "nat")
		ae.Nested(unix.NFTA_CHAIN_HOOK, func(ae *netlink.AttributeEncoder) error {
			ae.Bytes(unix.NFTA_HOOK_HOOKNUM, be32(unix.NF_INET_POST_ROUTING))
			ae.Bytes(unix.NFTA_HOOK_PRIORITY, be32(priority))
			return nil
		})
	})
	if err != nil {
		return err
	}
	rule, err := message(nfgenmsg(family, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_RULE_TABLE, natTable)
		ae.String(unix.NFTA_RULE_CHAIN, natChain)
		ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
			encodeRule(ae, family, from, to, into)
			return nil
		})
	})
	if err != nil {
		return err
	}

	// One batch (net/netfilter/nfnetlink.c). Only the rule's message asks for an acknowledgement: errors come in any case.
	const nft = unix.NFNL_SUBSYS_NFTABLES << 8
	messages := []netlink.Message{
		batchMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
		batchMessage(nft|unix.NFT_MSG_NEWTABLE, netlink.Create, table),
		batchMessage(nft|unix.NFT_MSG_NEWCHAIN, netlink.Create, chain),
		batchMessage(nft|unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append|netlink.Acknowledge, rule),
		batchMessage(unix.NFNL_MSG_BATCH_END, 0, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
	}
	if _, err := conn.SendMessages(messages); err != nil {
		return plain(err)
	}
	_, err = conn.Receive()
	return plain(err)
}

func batchMessage(kind netlink.HeaderType, flags netlink.HeaderFlags, body []byte) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: body}
}

// nfgenmsg is the fixed part of every nfnetlink message (include/uapi/linux/netfilter/nfnetlink.h).
func nfgenmsg(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// encodeRule encodes the expressions of the rule (include/uapi/linux/netfilter/nf_tables.h), all through register 1.
func encodeRule(ae *netlink.AttributeEncoder, family uint8, from, to, into uint16) {
	expression(ae, "meta", func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NFTA_META_DREG, be32(unix.NFT_REG_1))
		ae.Bytes(unix.NFTA_META_KEY, be32(unix.NFT_META_L4PROTO))
	})
	compare(ae, []byte{unix.IPPROTO_UDP})
	expression(ae, "payload", func(ae *netlink.AttributeEncoder) { // both ports: the first four bytes of the UDP header
		ae.Bytes(unix.NFTA_PAYLOAD_DREG, be32(unix.NFT_REG_1))
		ae.Bytes(unix.NFTA_PAYLOAD_BASE, be32(unix.NFT_PAYLOAD_TRANSPORT_HEADER))
		ae.Bytes(unix.NFTA_PAYLOAD_OFFSET, be32(0))
		ae.Bytes(unix.NFTA_PAYLOAD_LEN, be32(4))
	})
	compare(ae, append(be16(from), be16(to)...))
	expression(ae, "immediate", func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NFTA_IMMEDIATE_DREG, be32(unix.NFT_REG_1))
		value(ae, unix.NFTA_IMMEDIATE_DATA, be16(into))
	})
	expression(ae, "nat", func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NFTA_NAT_TYPE, be32(unix.NFT_NAT_SNAT))
		ae.Bytes(unix.NFTA_NAT_FAMILY, be32(uint32(family)))
		ae.Bytes(unix.NFTA_NAT_REG_PROTO_MIN, be32(unix.NFT_REG_1))
	})
}

func compare(ae *netlink.AttributeEncoder, want []byte) {
	expression(ae, "cmp", func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NFTA_CMP_SREG, be32(unix.NFT_REG_1))
		ae.Bytes(unix.NFTA_CMP_OP, be32(unix.NFT_CMP_EQ))
		value(ae, unix.NFTA_CMP_DATA, want)
	})
}

func value(ae *netlink.AttributeEncoder, kind uint16, b []byte) {
	ae.Nested(kind, func(ae *netlink.AttributeEncoder) error {
		ae.Bytes(unix.NFTA_DATA_VALUE, b)
		return nil
	})
}

func expression(ae *netlink.AttributeEncoder, name string, f func(*netlink.AttributeEncoder)) {
	ae.Nested(unix.NFTA_LIST_ELEM, func(ae *netlink.AttributeEncoder) error {
		ae.String(unix.NFTA_EXPR_NAME, name)
		ae.Nested(unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) error {
			f(ae)
			return nil
		})
		return nil
	})
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
