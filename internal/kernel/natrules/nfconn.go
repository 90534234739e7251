package natrules

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mdlayher/netlink"

	"vxlan_exporter/internal/kernel/nl"
)

// Requests of the nf_tables subsystem (include/uapi/linux/netfilter/nf_tables.h, enum nf_tables_msg_types). Each is
// answered by messages of the type before it: NFT_MSG_GETTABLE by NFT_MSG_NEWTABLE.
const (
	subsysNFTables = 10 // NFNL_SUBSYS_NFTABLES

	msgGetTable    = 1
	msgGetChain    = 4
	msgGetRule     = 7
	msgGetSet      = 10
	msgGetSetElem  = 13
	msgGetGen      = 16
	nfgenmsgLength = 4 // struct nfgenmsg {u8 family, version; be16 res_id}
)

// nfConn asks one subsystem of nfnetlink, in the network namespace of the thread that asks first.
type nfConn struct {
	ctx    context.Context
	open   nl.Opener
	subsys uint16
	reply  uint16 // how much lower the type of an answer is
	conn   *nl.Conn
}

func dialNFT(ctx context.Context, open nl.Opener) (*nfConn, error) {
	c := &nfConn{ctx: ctx, open: open, subsys: subsysNFTables, reply: 1}
	return c, c.told(c.dial())
}

func (c *nfConn) dial() (err error) {
	if c.conn == nil {
		c.conn, err = nl.Dial(c.ctx, c.open)
	}
	return err
}

func (c *nfConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// request is one question; attrs are names.
type request struct {
	kind   uint16
	family uint8
	attrs  []byte
}

// named appends the name of a table, a chain or a set.
func named(b []byte, kind uint16, name string) []byte { return nl.Append(b, kind, name+"\x00") }

func (c *nfConn) parts(q request) (request, reply netlink.HeaderType, data []byte) {
	kind := netlink.HeaderType(c.subsys<<8 | q.kind)
	return kind, kind - netlink.HeaderType(c.reply), append([]byte{q.family, 0, 0, 0}, q.attrs...)
}

// dump sends q and calls each with the attributes of every answer, which are valid only during the call. An error of
// each ends it; what is left of the answer goes with the socket. A dump is begun again, by reset, when what is listed
// changed in the middle.
func (c *nfConn) dump(q request, reset func(), each func(family uint8, b []byte) error) error {
	if err := c.dial(); err != nil {
		return c.told(err)
	}
	var enough error
	request, reply, data := c.parts(q)
	err := c.conn.Dump(request, reply, data, reset, func(b []byte) error {
		if enough = wellFormedNF(b); enough == nil {
			enough = each(b[0], b[nfgenmsgLength:])
		}
		return enough
	})
	if enough != nil {
		c.close()
	}
	return c.told(err)
}

// get sends q and returns the attributes of the one answer.
func (c *nfConn) get(q request) (nested, error) {
	err := c.dial()
	var b []byte
	if err == nil {
		b, err = c.conn.Get(c.parts(q))
	}
	if err == nil {
		err = wellFormedNF(b)
	}
	if err != nil {
		return nil, c.told(err)
	}
	return parseNested(b[nfgenmsgLength:]), nil
}

func wellFormedNF(b []byte) error {
	if len(b) < nfgenmsgLength || !nl.WellFormed(b[nfgenmsgLength:]) {
		return nl.ErrMalformed
	}
	return nil
}

// told is err as a person is told it.
func (c *nfConn) told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	default:
		err = needsAdmin(err)
	}
	if c.subsys == subsysNFTables {
		err = fmt.Errorf("nftables: %w", err)
	}
	return err
}

// needsAdmin says what permission is missing.
func needsAdmin(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	}
	return err
}

// generation is the number that every change of any rule set in this namespace increments.
func (c *nfConn) generation() (uint32, error) {
	n, err := c.get(request{kind: msgGetGen})
	return n.be32(1), err // NFTA_GEN_ID
}
