package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nlattr"
)

// Messages and attributes of ip_set (include/uapi/linux/netfilter/ipset/ip_set.h).
const (
	soIPSet       = 83 // SO_IP_SET
	subsysIPSet   = 6  // NFNL_SUBSYS_IPSET
	ipsetProtocol = 6
	ipsetTest     = 11 // IPSET_CMD_TEST
	ipsetHeader   = 12 // IPSET_CMD_HEADER

	ipsetAttrProtocol, ipsetAttrName, ipsetAttrType, ipsetAttrFamily, ipsetAttrData = 1, 2, 3, 5, 7

	ipsetAttrIP, ipsetAttrPort, ipsetAttrProto, ipsetAttrIP2 = 1, 4, 7, 20

	ipsetErrPrivate = unix.Errno(4096) // IPSET_ERR_PRIVATE: from here on, what a type says of a question
	ipsetErrExist   = unix.Errno(4103) // IPSET_ERR_EXIST: to a test, "not in the set"
)

// errSetAnswer: an answer that none of its kind can be.
var errSetAnswer = errors.New("malformed answer")

// setName asks for a name by getsockopt(SO_IP_SET): struct ip_set_req_get_set {unsigned op, version; union {char name[32]; u16 index}}.
// It is "" where no set has that index.
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
		return "", fmt.Errorf("getsockopt: %w", err)
	}
	if bytes.IndexByte(b[8:], 0) < 0 {
		return "", errSetAnswer
	}
	return cString(b[8:]), nil
}

// dial connects, once.
func (s *ipSets) dial() error {
	if s.broken != nil || s.conn != nil {
		return s.broken
	}
	conn, err := s.open()
	if err != nil {
		s.broken = fmt.Errorf("open netlink: %w", err)
		return s.broken
	}
	s.conn = conn
	if err := conn.SetDeadline(s.until); err != nil {
		s.broken = fmt.Errorf("set deadline: %w", err)
	}
	return s.broken
}

// ask sends a question about a set and returns what is behind the header of the answer, which is empty for one that is a yes. An error
// that is not the kernel's own refusal is the last: what comes next may be the answer to this question.
func (s *ipSets) ask(kind uint16, ipv6 bool, name string, data []byte) ([]byte, error) {
	if err := s.dial(); err != nil {
		return nil, err
	}
	family := byte(nfIPv4)
	if ipv6 {
		family = nfIPv6
	}
	b := nlattr.Append([]byte{family, 0, 0, 0}, ipsetAttrProtocol, []byte{ipsetProtocol})
	b = nlattr.Append(b, ipsetAttrName, append([]byte(name), 0))
	flags := netlink.Request
	if data != nil {
		const nestedFlag = 1 << 15
		b = nlattr.Append(b, ipsetAttrData|nestedFlag, data)
		flags |= netlink.Acknowledge
	}
	answer, err := s.exchange(netlink.Message{Header: netlink.Header{Type: subsysIPSet<<8 | netlink.HeaderType(kind), Flags: flags}, Data: b})
	if err != nil && (!errors.As(err, new(unix.Errno)) || errors.As(err, new(*os.SyscallError))) {
		s.broken = err
	}
	return answer, err
}

func (s *ipSets) exchange(question netlink.Message) (answer []byte, err error) {
	question, err = s.conn.Send(question)
	if err != nil {
		return nil, os.NewSyscallError("send", err)
	}
	n, wantsYes := 0, question.Header.Flags&netlink.Acknowledge != 0
	for m, err := range s.conn.ReceiveIter() {
		switch {
		case err != nil:
			return nil, err
		case m.Header.Sequence != question.Header.Sequence || m.Header.PID != question.Header.PID:
			err = errors.New("the answer is to another request")
		case wantsYes && m.Header.Type == netlink.Error: // the acknowledgement
		case wantsYes || m.Header.Type != question.Header.Type || len(m.Data) < nfgenmsgLength || !wellFormed(m.Data[nfgenmsgLength:]):
			err = errSetAnswer
		default:
			answer = bytes.Clone(m.Data[nfgenmsgLength:])
		}
		if n++; n > 1 && err == nil {
			err = errSetAnswer
		}
		if err != nil {
			_ = s.conn.SetDeadline(time.Unix(1, 0)) // leaving the loop may read on
			return nil, err
		}
	}
	if n == 0 {
		return nil, errSetAnswer
	}
	return answer, nil
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
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	}
	if s.failed == nil {
		s.failed = err
	}
}
