package natrules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages of the nf_tables subsystem (include/uapi/linux/netfilter/nf_tables.h, enum nf_tables_msg_types).
const (
	subsysNFTables = 10 // NFNL_SUBSYS_NFTABLES

	msgNewTable    = 0
	msgGetTable    = 1
	msgNewChain    = 3
	msgGetChain    = 4
	msgNewRule     = 6
	msgGetRule     = 7
	msgNewSet      = 9
	msgGetSet      = 10
	msgNewSetElem  = 12
	msgGetSetElem  = 13
	msgNewGen      = 15
	msgGetGen      = 16
	nfgenmsgLength = 4 // struct nfgenmsg {u8 family, version; be16 res_id}
)

// nftReceive is the size of the receive buffer: the kernel fills dumps up to 32 KiB (NETLINK_DUMP skbs, net/netlink/af_netlink.c).
const nftReceive = 32 << 10

// Socket is what is needed of a netlink socket; *netlink.Conn is one.
type Socket interface {
	Send(m netlink.Message) (netlink.Message, error)
	ReceiveIter() iter.Seq2[netlink.Message, error]
	SetDeadline(t time.Time) error
	Close() error
}

// openSocket opens an nfnetlink socket in the network namespace of the calling thread.
func openSocket() (Socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: nftReceive})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// nftConn is a connection to nf_tables in the network namespace of the thread that dialled it.
type nftConn struct {
	conn   Socket
	broken error // an answer was left in the middle: what comes next cannot be told from the rest of it
}

func dialNFT(ctx context.Context, open func() (Socket, error)) (*nftConn, error) {
	conn, err := open()
	if err != nil {
		return nil, fmt.Errorf("nftables: open netlink: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(fmt.Errorf("nftables: set deadline: %w", err), conn.Close())
	}
	return &nftConn{conn: conn}, nil
}

func (c *nftConn) close() { _ = c.conn.Close() }

// maxAnswers bounds the messages of one answer. Old kernels send every rule of the namespace, whatever chain is asked for: a node of
// 10,000 services has some 200,000.
const maxAnswers = 1 << 22

// request is one question. Attributes are strings: tables, chains and sets are named.
type request struct {
	kind   uint16
	family uint8
	dump   bool
	attrs  []attr
}

func (q request) payload() []byte {
	b := []byte{q.family, 0, 0, 0}
	for _, a := range q.attrs {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(a.data)+1)) //nolint:gosec // names are shorter than NFT_NAME_MAXLEN (256)
		b = binary.NativeEndian.AppendUint16(b, a.kind)
		b = append(append(b, a.data...), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// ask sends q and calls each with the attributes of every answer, which are valid only during the call. What each returns as
// false ends it; the rest of the dump is thrown away.
func (c *nftConn) ask(q request, each func(family uint8, b []byte) bool) error {
	flags := netlink.Request
	if q.dump {
		flags |= netlink.Dump
	}
	if c.broken != nil {
		return c.broken
	}
	asked, err := c.conn.Send(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsysNFTables<<8 | q.kind), Flags: flags},
		Data:   q.payload(),
	})
	if err != nil {
		return nftError(err)
	}
	n := 0
	for m, err := range c.conn.ReceiveIter() {
		if err != nil {
			if errors.As(err, new(*os.SyscallError)) || errors.Is(err, os.ErrDeadlineExceeded) { // not the kernel's own refusal, which ends an answer
				c.broken = nftError(err)
			}
			return nftError(err)
		}
		if m.Header.Sequence != asked.Header.Sequence || m.Header.PID != asked.Header.PID {
			c.broken = fmt.Errorf("nftables: the answer is to request %d of port %d, not %d of %d",
				m.Header.Sequence, m.Header.PID, asked.Header.Sequence, asked.Header.PID)
			return c.broken
		}
		if n++; n > maxAnswers {
			_ = c.conn.SetDeadline(time.Unix(1, 0)) // leaving the loop would read on to the end
			c.broken = fmt.Errorf("nftables: the answer does not end: %d messages", n)
			return c.broken
		}
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return errChanged
		}
		if len(m.Data) < nfgenmsgLength {
			continue
		}
		if !wellFormed(m.Data[nfgenmsgLength:]) {
			return errMalformed
		}
		if !each(m.Data[0], m.Data[nfgenmsgLength:]) {
			break
		}
	}
	return nil
}

// errChanged: the rules changed while they were dumped (NLM_F_DUMP_INTR, or EINTR).
var errChanged = errors.New("nftables: the rules changed while they were read")

// errMalformed: lengths in an answer contradict each other.
var errMalformed = errors.New("nftables: malformed netlink message")

func nftError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("nftables: %w (needs CAP_NET_ADMIN)", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("nftables: %w: %w", err, context.DeadlineExceeded)
	default:
		return fmt.Errorf("nftables: %w", err)
	}
}

// generation is the number that every change of any rule set in this namespace increments.
func (c *nftConn) generation() (uint32, error) {
	var id uint32
	err := c.ask(request{kind: msgGetGen}, func(_ uint8, b []byte) bool {
		id = parseNested(b).be32(1) // NFTA_GEN_ID
		return true
	})
	return id, err
}
