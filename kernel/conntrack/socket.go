package conntrack

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a ctnetlink socket. Tests hand the scanner one that a hostile or a recorded kernel speaks through.
type Socket interface {
	// Send sends one request. The kernel walks the table for the first reply already during this call.
	Send(request []byte) error
	// Receive reads one datagram into p and returns its full length, which is larger than len(p) when it was cut off. No reply
	// before the deadline is an error that wraps os.ErrDeadlineExceeded.
	Receive(p []byte) (int, error)
	// SetDeadline bounds Send and Receive.
	SetDeadline(t time.Time) error
	// PortID is the netlink address of the socket, which replies carry.
	PortID() uint32
	Close() error
}

// Opener opens a socket in the network namespace to be read.
type Opener func() (Socket, error)

// Open opens a ctnetlink socket in the network namespace of the calling thread. Opening needs no privilege; the kernel refuses
// the dump itself.
func Open() (Socket, error) {
	// Not Strict: its options fail to set before 4.20, and ctnetlink does not look at them.
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil, fmt.Errorf("open nfnetlink socket: %w", err)
	}
	s, err := newSocket(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open nfnetlink socket: %w", err), c.Close())
	}
	return s, nil
}

// socket sends and receives by itself on a socket of package netlink. That package's own ReceiveIter copies each datagram to a new
// buffer (ownedBuffer in conn_linux.go, v1.11.2) and allocates closures and an address for every receive: 10 allocations for
// every 8 KiB of a million entries. Nor does it tell one receive from the next, which is what is to be timed.
type socket struct {
	conn   *netlink.Conn
	rc     syscall.RawConn
	portID uint32

	// Kept here, with the two functions, so that a receive allocates nothing.
	read, write func(fd uintptr) bool
	buf         []byte
	n           int
	errno       unix.Errno
	from        unix.RawSockaddrNetlink
	fromLen     uint32
}

func newSocket(c *netlink.Conn) (*socket, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{conn: c, rc: rc}
	s.read, s.write = s.recvfrom, s.send
	var sa unix.Sockaddr
	if cerr := rc.Control(func(fd uintptr) { sa, err = unix.Getsockname(int(fd)) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	nl, ok := sa.(*unix.SockaddrNetlink)
	if !ok {
		return nil, fmt.Errorf("getsockname: got %T, want a netlink address", sa)
	}
	s.portID = nl.Pid
	return s, nil
}

func (s *socket) Send(request []byte) error {
	s.buf = request
	if err := s.rc.Write(s.write); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if s.errno != 0 {
		return fmt.Errorf("send: %w", s.errno)
	}
	return nil
}

func (s *socket) Receive(p []byte) (int, error) {
	s.buf = p
	if err := s.rc.Read(s.read); err != nil {
		return 0, fmt.Errorf("receive: %w", err)
	}
	if s.errno != 0 {
		return 0, fmt.Errorf("receive: %w", s.errno)
	}
	if s.from.Pid != 0 {
		return 0, fmt.Errorf("receive: a message of process %d, not of the kernel", s.from.Pid)
	}
	return s.n, nil
}

// recvfrom is a bare recvfrom(2): the wrapper in package unix allocates the sender's address. MSG_TRUNC makes it return the full
// length of a datagram that did not fit (recv(2)).
func (s *socket) recvfrom(fd uintptr) bool {
	s.fromLen = unix.SizeofSockaddrNetlink
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.buf))), uintptr(len(s.buf)),
		unix.MSG_TRUNC, uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&s.fromLen)))
	s.n, s.errno = int(n), errno
	return errno != unix.EAGAIN && errno != unix.EINTR
}

// send writes to the kernel, which is where an unconnected netlink socket points (netlink(7)).
func (s *socket) send(fd uintptr) bool {
	_, err := unix.Write(int(fd), s.buf)
	s.errno = 0
	if err != nil && !errors.As(err, &s.errno) {
		s.errno = unix.EIO
	}
	return s.errno != unix.EAGAIN && s.errno != unix.EINTR
}

func (s *socket) SetDeadline(t time.Time) error { return s.conn.SetDeadline(t) }
func (s *socket) PortID() uint32                { return s.portID }
func (s *socket) Close() error                  { return s.conn.Close() }
