package natrules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// nfConn asks one subsystem of nfnetlink, in the network namespace of the thread that asks first.
type nfConn struct {
	ctx    context.Context
	open   nl.Opener
	subsys uint16
	reply  uint16 // how much lower the type of an answer is: of nf_tables, NFT_MSG_GETTABLE follows NFT_MSG_NEWTABLE
	conn   *nl.Conn
}

func newNFT(ctx context.Context, open nl.Opener) *nfConn {
	return &nfConn{ctx: ctx, open: open, subsys: unix.NFNL_SUBSYS_NFTABLES, reply: 1}
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

// ask dials, if that was not done yet, and lets f send q.
func (c *nfConn) ask(q request, f func(kind, reply netlink.HeaderType, data []byte) error) (err error) {
	if c.conn == nil {
		c.conn, err = nl.Dial(c.ctx, c.open)
	}
	if err == nil {
		kind := netlink.HeaderType(c.subsys<<8 | q.kind)
		// struct nfgenmsg {u8 family, version; be16 res_id}
		err = f(kind, kind-netlink.HeaderType(c.reply), append([]byte{q.family, 0, 0, 0}, q.attrs...))
	}
	if err = needsAdmin(err); err != nil && c.subsys == unix.NFNL_SUBSYS_NFTABLES {
		err = fmt.Errorf("nftables: %w", err)
	}
	return err
}

// dump sends q and calls each with the attributes of every answer, which are valid only during the call. An error of
// each ends it; what is left of the answer goes with the socket. A dump is begun again, by reset, when what is listed
// changed in the middle.
func (c *nfConn) dump(q request, reset func(), each func(family uint8, b []byte) error) error {
	return c.ask(q, func(kind, reply netlink.HeaderType, data []byte) error {
		enough := false
		err := c.conn.Dump(kind, reply, data, reset, func(b []byte) error {
			attrs, err := attributesOf(b, nfgenmsgLength)
			if err == nil {
				err = each(b[0], attrs)
			}
			enough = err != nil
			return err
		})
		if enough {
			c.close()
		}
		return err
	})
}

// get sends q and returns the attributes of the one answer.
func (c *nfConn) get(q request) (n nested, err error) {
	err = c.ask(q, func(kind, reply netlink.HeaderType, data []byte) error {
		b, err := c.conn.Get(kind, reply, data)
		if err == nil {
			b, err = attributesOf(b, nfgenmsgLength)
			n = parseNested(b)
		}
		return err
	})
	return n, err
}

const nfgenmsgLength = 4

// attributesOf are the attributes behind a header of so many bytes.
func attributesOf(b []byte, header int) ([]byte, error) {
	if len(b) < header || !nl.WellFormed(b[header:]) {
		return nil, nl.ErrMalformed
	}
	return b[header:], nil
}

// needsAdmin says what permission is missing.
func needsAdmin(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	}
	return err
}

// nested are the attributes of one level, by type; nf_tables gives every type once, but in lists.
type nested map[uint16][]byte

func parseNested(b []byte) nested {
	n := nested{}
	maps.Insert(n, nl.Attrs(b))
	return n
}

// be32 reads a number; all numbers of nf_tables are big-endian. 0 when it is not there.
func (n nested) be32(kind uint16) uint32 {
	if b := n[kind]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (n nested) be64(kind uint16) uint64 {
	if b := n[kind]; len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (n nested) text(kind uint16) string { return nl.Text(n[kind]) }

func (n nested) has(kind uint16) bool { _, ok := n[kind]; return ok }

// value is NFTA_DATA_VALUE of a nested NFTA_* data attribute.
func (n nested) value(kind uint16) []byte { return parseNested(n[kind])[1] }
