package kerneltest

import (
	"bytes"
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// The one ip set.
const (
	setIndex = 3
	setName  = "nodes"
)

// OpenIPSets is an opener of natrules.
func (k *Kernel) OpenIPSets() (nl.Socket, error) { return k.messages(IPSets, k.ipSets) }

// ipSets answers IPSET_CMD_LIST. There is one set, of addresses, with Remote in it
// (include/uapi/linux/netfilter/ipset/ip_set.h).
func (k *Kernel) ipSets(m netlink.Message) ([]netlink.Message, error) {
	const list = 7
	switch {
	case !bytes.Contains(m.Data, []byte(setName+"\x00")):
		return nil, unix.ENOENT
	case uint16(m.Header.Type)&0xff != list:
		return nil, unix.EINVAL
	}
	b := nl.Append(nl.Append([]byte{unix.AF_INET, 0, 0, 0}, 1, []byte{6}), 2, setName+"\x00")
	// IPSET_ATTR_ADT {IPSET_ATTR_DATA {IPSET_ATTR_IP {IPSET_ATTR_IPADDR_IPV4}}}
	address := nested(nil, 1, nl.Append(nil, 1|unix.NLA_F_NET_BYTEORDER, Remote().AsSlice()))
	b = nested(b, 8, nested(nil, 7, address))
	// The type comes last, where the kernel has padding: a message that is cut off shall lack something.
	b = nl.Append(nl.Append(nl.Append(b, 5, []byte{unix.AF_INET}), 4, []byte{4}), 3, "hash:ip\x00")
	if f, _ := k.fault(IPSets); f.Size != 0 { // of the first attribute
		binary.NativeEndian.PutUint16(b[4:], uint16(f.Size)) //nolint:gosec // a fault's
	}
	return []netlink.Message{{Header: netlink.Header{Type: m.Header.Type}, Data: b}}, nil
}

// ipSetName answers getsockopt(SO_IP_SET): struct ip_set_req_get_set {unsigned op, version; union {char name[32]; u16
// index}}.
func (k *Kernel) ipSetName(b []byte) error {
	f, changed := k.fault(IPSetNames)
	switch {
	case f.Hung:
		<-changed
	case f.Refuse != nil:
		return f.Refuse
	}
	asked := binary.NativeEndian.Uint16(b[8:])
	clear(b[8:])
	switch {
	case f.Endless:
		copy(b[8:], bytes.Repeat([]byte("n"), len(b)))
	case asked == setIndex && !f.Empty:
		copy(b[8:], setName)
	}
	return nil
}
