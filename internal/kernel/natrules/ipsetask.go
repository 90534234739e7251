package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Messages and attributes of ip_set (include/uapi/linux/netfilter/ipset/ip_set.h).
const (
	soIPSet       = 83 // SO_IP_SET
	subsysIPSet   = 6  // NFNL_SUBSYS_IPSET
	ipsetProtocol = 6
	ipsetList     = 7  // IPSET_CMD_LIST
	ipsetHeader   = 12 // IPSET_CMD_HEADER

	ipsetAttrProtocol, ipsetAttrName, ipsetAttrType, ipsetAttrFamily, ipsetAttrData = 1, 2, 3, 5, 7

	ipsetAttrADT = 8

	ipsetAttrIP, ipsetAttrCIDR, ipsetAttrPort, ipsetAttrCADTFlags, ipsetAttrMemberName = 1, 3, 4, 8, 18

	ipsetAttrBitmask, ipsetAttrNetmask = 12, 20 // of the set

	ipsetFlagNoMatch = 1 << 2 // IPSET_FLAG_NOMATCH: an exception

	ipsetErrPrivate = unix.Errno(4096) // IPSET_ERR_PRIVATE: from here on, what a type says of a question
)

// setName asks for a name by getsockopt(SO_IP_SET): struct ip_set_req_get_set {unsigned op, version; union {char
// name[32]; u16 index}}. It is "" where no set has that index.
func setName(open func(ipv6 bool) (LegacySocket, error), index uint16) (string, error) {
	const getByIndex = 7 // IP_SET_OP_GET_BYINDEX
	socket, err := open(false)
	if err != nil {
		return "", fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = socket.Close() }()
	var b [40]byte
	binary.NativeEndian.PutUint32(b[:], getByIndex)
	binary.NativeEndian.PutUint32(b[4:], ipsetProtocol)
	binary.NativeEndian.PutUint16(b[8:], index)
	if err := socket.Getsockopt(soIPSet, b[:]); err != nil {
		return "", needsAdmin(fmt.Errorf("getsockopt: %w", err))
	}
	if bytes.IndexByte(b[8:], 0) < 0 {
		return "", nl.ErrMalformed
	}
	return cString(b[8:]), nil
}

// about is a question about a set. An answer is of the same type.
func about(kind uint16, ipv6 bool, name string) request {
	attrs := named(nl.Append(nil, ipsetAttrProtocol, []byte{ipsetProtocol}), ipsetAttrName, name)
	q := request{kind: kind, family: nfIPv4, attrs: attrs}
	if ipv6 {
		q.family = nfIPv6
	}
	return q
}

// note keeps why a question about a set came to nothing. What a type of set cannot be asked is no failure.
func (s *ipSets) note(name string, err error) {
	var refusal unix.Errno
	switch {
	case err == nil, errors.As(err, &refusal) && refusal >= ipsetErrPrivate:
	case errors.Is(err, unix.ENOENT):
		s.gone = true
	default:
		s.fail(fmt.Errorf("set %s: %w", name, err))
	}
}

// fail keeps the first failure.
func (s *ipSets) fail(err error) {
	if s.failed == nil {
		s.failed = err
	}
}
