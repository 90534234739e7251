package selftest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// capture is a packet socket that sees every frame in the namespace, going out and coming in.
type capture struct{ fd int }

// frame is one of them.
type frame struct {
	index    int // of the device
	outgoing bool
	notReady bool // TP_STATUS_CSUMNOTREADY: the checksum is left to offload
	data     []byte
}

// maxFrame is more than the test's packets have.
const maxFrame = 2048

func newCapture() (*capture, error) {
	// ETH_P_ALL in network byte order; with any other protocol a packet socket does not see what is sent.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(binary.NativeEndian.Uint16(be16(unix.ETH_P_ALL))))
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket: PACKET_AUXDATA: %w", err), unix.Close(fd))
	}
	return &capture{fd}, nil
}

func (c *capture) close() { _ = unix.Close(c.fd) }

// next waits for a frame until the deadline. No frame is nil without an error.
func (c *capture) next(ctx context.Context, deadline time.Time) (*frame, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := c.receive()
		if err == nil || !errors.Is(err, unix.EAGAIN) {
			return f, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		// Short waits, so that a signal ends the run at once.
		wait := max(min(left, 20*time.Millisecond), time.Millisecond)
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(wait.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("packet socket: poll: %w", err)
		}
	}
}

func (c *capture) receive() (*frame, error) {
	data, control := make([]byte, maxFrame), make([]byte, unix.CmsgSpace(sizeofAuxdata))
	n, oobn, _, from, err := unix.Recvmsg(c.fd, data, control, 0)
	if err != nil {
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) { // a device went down: said once
			err = unix.EAGAIN
		}
		return nil, fmt.Errorf("packet socket: receive: %w", err)
	}
	f := &frame{data: data[:n]}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.index, f.outgoing = ll.Ifindex, ll.Pkttype == unix.PACKET_OUTGOING
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 {
			f.notReady = binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_CSUMNOTREADY != 0
		}
	}
	return f, nil
}

// sizeofAuxdata is that of struct tpacket_auxdata, which begins with the status (include/uapi/linux/if_packet.h).
const sizeofAuxdata = 20
