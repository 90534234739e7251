package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab"
)

// links records what a link's counters are read from.
func links() error {
	messages, err := dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return err
	}
	return seeds("internal/kernel/capture/FuzzCounts", each(messages)...)
}

// surroundings records addresses, forwarding databases, routes and nexthop objects. The target hands each to all four readers.
func surroundings() error {
	var all [][]byte
	for _, q := range []struct {
		kind    netlink.HeaderType
		request []byte
	}{
		{unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg)},
		{unix.RTM_GETNEIGH, append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...)},
		{unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg)},
		{unix.RTM_GETNEXTHOP, make([]byte, unix.SizeofNhmsg)},
	} {
		messages, err := dump(q.kind, q.request)
		if err != nil {
			return err
		}
		all = append(all, messages[:min(len(messages), 32)]...)
	}
	return seeds("internal/kernel/natrules/FuzzSurroundings", each(all)...)
}

func dump(kind netlink.HeaderType, request []byte) (payloads [][]byte, err error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	messages, err := conn.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: request})
	for _, m := range messages {
		payloads = append(payloads, m.Data)
	}
	return payloads, err
}

// events records the notifications of devices that come, change and go.
func events(ns *lab.NS) (err error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, command := range []string{
		"link add cali type vxlan id 9 dstport 4789 local 192.0.2.1 udpcsum", "link add ext type vxlan external dstport 4790", "link set cali up",
		"link set cali name renamed", "link add br0 type bridge", "link set br0 mtu 1400", "link del renamed",
	} {
		if _, err := ns.RunInput(command+"\n", "ip", "-batch", "-"); err != nil {
			return err
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	var all [][]byte
	for {
		messages, err := conn.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return fmt.Errorf("link events: %w", err)
		}
		for _, m := range messages {
			all = append(all, m.Data)
		}
	}
	return seeds("internal/kernel/rtnl/FuzzEvent", each(all)...)
}
