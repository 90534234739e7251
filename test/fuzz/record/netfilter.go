package main

import (
	"errors"
	"fmt"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/internal/kernel/nl"
)

const port = 8472

// flows records replies about a connection tracking table: dumps of all, of a protocol and of a port, and the totals.
func flows() (err error) {
	table, err := conntracktest.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	add := []conntracktest.Flow{conntracktest.TCP(1), conntracktest.UDP(1), conntracktest.VXLAN6(1, port), conntracktest.VXLAN6(2, port).WithSNAT()}
	for i := range 4 {
		add = append(add, conntracktest.VXLAN(i, port))
	}
	zoned := conntracktest.VXLAN(9, port)
	zoned.Zone = 7
	add = append(add, conntracktest.VXLAN(5, port).WithSNAT(), zoned)
	if err := table.Add(add...); err != nil {
		return err
	}
	const getStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5 // IPCTNL_MSG_CT_GET_STATS
	var all [][]any
	for _, q := range []struct {
		request []byte
		counted bool // a dump, as of a table with entries
	}{
		{conntracktest.DumpRequest(unix.AF_UNSPEC, false, 0), true},
		{conntracktest.DumpRequest(unix.AF_INET, true, port), true},
		{conntracktest.DumpRequest(unix.AF_INET6, true, 0), true},
		{conntracktest.Message(conntracktest.Request{Seq: 1}, getStats, unix.NLM_F_REQUEST, make([]byte, 4)), false},
	} {
		one, two, err := ask(q.request, q.counted)
		if err != nil {
			return err
		}
		all = append(all, []any{one, two, q.counted})
	}
	return seeds("internal/kernel/conntrack/FuzzReply", all...)
}

// ask sends one request and returns the first two datagrams of the reply; two is empty when it is no dump.
func ask(request []byte, dump bool) (one, two []byte, err error) {
	s, err := conntrack.Open()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Send(request); err != nil {
		return nil, nil, err
	}
	receive := func() ([]byte, error) {
		b := make([]byte, 8<<10)
		n, err := s.Receive(b)
		return b[:min(n, len(b))], err
	}
	if one, err = receive(); err != nil {
		return nil, nil, err
	}
	if dump {
		two, err = receive()
	}
	return one, two, err
}

// sets records what the kernel says of ip sets.
func sets() (err error) {
	const getHeader = unix.NFNL_SUBSYS_IPSET<<8 | 12 // IPSET_CMD_HEADER
	conn, err := mdlayher.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var all [][]byte
	for _, set := range []struct {
		name, kind string
		family     uint8
	}{
		{"KUBE-LOOP-BACK", "hash:ip,port,ip", unix.AF_INET},
		{"KUBE-6-LOOP-BACK", "hash:ip,port,ip", unix.AF_INET6},
		{"cali40all-ipam-pools", "hash:net", unix.AF_INET},
	} {
		if err := netlink.IpsetCreate(set.name, set.kind, netlink.IpsetCreateOptions{Replace: true, Family: set.family}); err != nil {
			return fmt.Errorf("create IP set %s: %w", set.name, err)
		}
		b := nl.Append([]byte{set.family, 0, 0, 0}, 1, []byte{6}) // IPSET_ATTR_PROTOCOL
		b = nl.Append(b, 2, append([]byte(set.name), 0))          // IPSET_ATTR_SETNAME
		messages, err := conn.Execute(mdlayher.Message{Header: mdlayher.Header{Type: getHeader, Flags: mdlayher.Request}, Data: b})
		if err != nil {
			return fmt.Errorf("IP set %s: %w", set.name, err)
		}
		for _, m := range messages {
			all = append(all, m.Data)
		}
	}
	return seeds("internal/kernel/natrules/FuzzIPSet", each(all)...)
}
