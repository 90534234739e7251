package natrules

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setNameByIndex is the name of an ip set, by getsockopt(SO_IP_SET): struct ip_set_req_get_set {unsigned op, version; union {char
// name[32]; u16 index}}.
func setNameByIndex(index uint16) string {
	const soIPSet, getByIndex = 83, 7 // SO_IP_SET, IP_SET_OP_GET_BYINDEX
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var b [40]byte
	binary.NativeEndian.PutUint32(b[:], getByIndex)
	binary.NativeEndian.PutUint32(b[4:], ipsetProtocol)
	binary.NativeEndian.PutUint16(b[8:], index)
	if getsockopt(fd, unix.IPPROTO_IP, soIPSet, unsafe.Pointer(&b[0]), len(b)) != nil {
		return ""
	}
	return cString(b[8:])
}
