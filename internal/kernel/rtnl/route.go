package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Route is where the kernel would send a packet (ip route get).
type Route struct {
	Index  int        // interface it leaves by
	Source netip.Addr // address it would be sent from
}

// Route asks where a packet of this node goes. source may be the zero Addr, mark 0.
func (c *Conn) Route(destination, source netip.Addr, mark uint32) (Route, error) {
	request := make([]byte, unix.SizeofRtMsg, 64)
	destination, source = destination.Unmap(), source.Unmap()
	request[0], request[1] = family(destination), byte(destination.BitLen())
	request = nl.Append(request, unix.RTA_DST, destination.AsSlice())
	if source.IsValid() {
		request[2] = byte(source.BitLen())
		request = nl.Append(request, unix.RTA_SRC, source.AsSlice())
	}
	if mark != 0 {
		request = nl.Append(request, unix.RTA_MARK, binary.NativeEndian.AppendUint32(nil, mark))
	}
	data, err := c.Get(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, request)
	var r Route
	if err == nil {
		r, err = parseRoute(data)
	}
	if err != nil {
		return Route{}, fmt.Errorf("rtnetlink: route to %s: %w", destination, err)
	}
	if !r.Source.IsValid() {
		r.Source = source
	}
	return r, nil
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func parseRoute(data []byte) (r Route, err error) {
	if len(data) < unix.SizeofRtMsg {
		return r, nl.ErrMalformed
	}
	size := 4
	if data[0] == unix.AF_INET6 {
		size = 16
	}
	err = nl.Each(data[unix.SizeofRtMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.RTA_OIF:
			var index uint32
			index, err = nl.Uint32(v)
			r.Index = int(int32(index))
		case unix.RTA_PREFSRC:
			r.Source, err = nl.Address(v, size)
		}
		return err
	})
	return r, err
}
