package capture

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// vnetHeader is the length of struct virtio_net_hdr, include/uapi/linux/virtio_net.h: flags u8, gso_type u8, hdr_len
// u16, gso_size u16, csum_start u16, csum_offset u16, in the machine's own byte order.
const vnetHeader = 10

const (
	vnetNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetVerified      = 2 // VIRTIO_NET_HDR_F_DATA_VALID
)

// Bits of tp_status, include/uapi/linux/if_packet.h.
const (
	statusNotReady = 1 << 3 // TP_STATUS_CSUMNOTREADY
	statusVerified = 1 << 7 // TP_STATUS_CSUM_VALID
	statusGSO      = 1 << 8 // TP_STATUS_GSO_TCP
)

// auxdataLength is the length of struct tpacket_auxdata up to tp_vlan_tci, as it was before Linux 3.14 added
// tp_vlan_tpid.
const auxdataLength = 18

// readVNet takes what is needed from a struct virtio_net_hdr.
func (m *Meta) readVNet(b []byte) {
	if len(b) < vnetHeader {
		return
	}
	m.GSO = m.GSO || b[1] != 0 // VIRTIO_NET_HDR_GSO_NONE is 0
	m.Verified = m.Verified || b[0]&vnetVerified != 0
	if b[0]&vnetNeedsChecksum != 0 {
		m.NotReady = true
		m.ChecksumStart = int(binary.NativeEndian.Uint16(b[6:]))
		m.ChecksumOffset = int(binary.NativeEndian.Uint16(b[8:]))
	}
}

// readControl takes what is needed from control messages: the struct tpacket_auxdata among them, if there is one.
func (m *Meta) readControl(oob []byte) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		if h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(data) >= auxdataLength {
			status := binary.NativeEndian.Uint32(data)
			m.NotReady = m.NotReady || status&statusNotReady != 0
			m.Verified = m.Verified || status&statusVerified != 0
			m.GSO = m.GSO || status&statusGSO != 0
			m.Length = int(binary.NativeEndian.Uint32(data[4:]))
			return
		}
		oob = rest
	}
}
