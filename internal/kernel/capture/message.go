package capture

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Message is room for a packet of a Socket, and the packet that came.
type Message struct {
	Data, Control         []byte // room: for a struct virtio_net_hdr and the packet, and for control messages
	Length, ControlLength int    // how much of it was filled
	Index                 int    // of the interface
	Outgoing              bool   // this host sends the packet
}

const (
	// maxMessages is how many packets are taken with one system call.
	maxMessages = 32
	// maxRoom bounds the room for them: where packets are long, they are taken fewer at a time.
	maxRoom = 128 << 10
	// controlRoom is more than struct tpacket_auxdata needs, the only control message there is.
	controlRoom = 64
)

// NewMessages makes room for packets of up to length bytes.
func NewMessages(length int) []Message {
	size := vnetHeader + max(length, 0)
	messages := make([]Message, min(max(maxRoom/size, 1), maxMessages))
	data, control := make([]byte, len(messages)*size), make([]byte, len(messages)*controlRoom)
	for i := range messages {
		messages[i].Data, data = data[:size:size], data[size:]
		messages[i].Control, control = control[:controlRoom:controlRoom], control[controlRoom:]
	}
	return messages
}

// Packet reads what the kernel has written.
func (m *Message) Packet() Packet {
	n := min(max(m.Length, 0), len(m.Data))
	p := Packet{Meta: Meta{Index: m.Index, Outgoing: m.Outgoing, Length: n - vnetHeader}}
	if n > vnetHeader {
		p.Frame = m.Data[vnetHeader:n]
		p.Meta.readVNet(m.Data[:n])
	}
	p.Meta.readControl(m.Control[:min(max(m.ControlLength, 0), len(m.Control))])
	return p
}

// vnetHeader is the length of struct virtio_net_hdr, include/uapi/linux/virtio_net.h: flags u8, gso_type u8, hdr_len
// u16, gso_size u16, csum_start u16, csum_offset u16, in the machine's own byte order.
const vnetHeader = 10

// readVNet takes what is needed from a struct virtio_net_hdr.
func (m *Meta) readVNet(b []byte) {
	if len(b) < vnetHeader {
		return
	}
	m.GSO = m.GSO || b[1] != unix.VIRTIO_NET_HDR_GSO_NONE
	m.Verified = m.Verified || b[0]&unix.VIRTIO_NET_HDR_F_DATA_VALID != 0
	if b[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
		m.NotReady = true
		m.ChecksumStart = int(binary.NativeEndian.Uint16(b[6:]))
		m.ChecksumOffset = int(binary.NativeEndian.Uint16(b[8:]))
	}
}

// auxdataLength is the length of struct tpacket_auxdata up to tp_vlan_tci, as it was before Linux 3.14 added
// tp_vlan_tpid.
const auxdataLength = 18

// readControl takes what is needed from the control message, a struct tpacket_auxdata.
func (m *Meta) readControl(oob []byte) {
	const statusGSO = 1 << 8 // TP_STATUS_GSO_TCP
	if len(oob) < unix.SizeofCmsghdr {
		return
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA || len(data) < auxdataLength {
		return
	}
	status := binary.NativeEndian.Uint32(data)
	m.NotReady = m.NotReady || status&unix.TP_STATUS_CSUMNOTREADY != 0
	m.Verified = m.Verified || status&unix.TP_STATUS_CSUM_VALID != 0
	m.GSO = m.GSO || status&statusGSO != 0
	m.Length = int(binary.NativeEndian.Uint32(data[4:]))
}

// messageParts is what the header of a message points to beside its room.
type messageParts struct {
	data unix.Iovec
	from unix.RawSockaddrLinklayer
}

// Receive fetches all packets with one recvmmsg, which saves about 6 % of the probe's CPU time against a call for each.
func (s *packetSocket) Receive(into []Message) (n int, err error) {
	into = into[:min(len(into), len(s.headers))]
	for i := range into {
		h, p := &s.headers[i].Hdr, &s.parts[i]
		*p = messageParts{data: unix.Iovec{Base: unsafe.SliceData(into[i].Data)}}
		p.data.SetLen(len(into[i].Data))
		*h = unix.Msghdr{
			Name:    (*byte)(unsafe.Pointer(&p.from)),
			Namelen: unix.SizeofSockaddrLinklayer,
			Iov:     &p.data,
			Control: unsafe.SliceData(into[i].Control),
		}
		h.SetIovlen(1)
		h.SetControllen(len(into[i].Control))
	}
	err = s.control(func(fd int) error {
		got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.headers)),
			uintptr(len(into)), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return os.NewSyscallError("recvmmsg", errno)
		}
		n = int(got)
		return nil
	})
	for i := range into[:n] {
		h, from := &s.headers[i], &s.parts[i].from
		into[i].Length, into[i].ControlLength = int(h.Len), int(h.Hdr.Controllen)
		into[i].Index, into[i].Outgoing = int(from.Ifindex), from.Pkttype == unix.PACKET_OUTGOING
	}
	return n, err
}
