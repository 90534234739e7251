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

// Requests of the nf_tables subsystem (include/uapi/linux/netfilter/nf_tables.h, enum nf_tables_msg_types). Each is answered by
// messages of the type before it: NFT_MSG_GETTABLE by NFT_MSG_NEWTABLE.
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

// nftConn is a connection to nf_tables in the network namespace of the thread that dialled it.
type nftConn struct{ conn *nl.Conn }

func dialNFT(ctx context.Context, open nl.Opener) (*nftConn, error) {
	conn, err := nl.Dial(ctx, open)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return &nftConn{conn}, nil
}

func (c *nftConn) close() { _ = c.conn.Close() }

// request is one question; attrs are names.
type request struct {
	kind   uint16
	family uint8
	attrs  []byte
}

// named appends the name of a table, a chain or a set.
func named(b []byte, kind uint16, name string) []byte { return nl.Append(b, kind, name+"\x00") }

func (q request) parts() (request, reply netlink.HeaderType, data []byte) {
	kind := netlink.HeaderType(subsysNFTables<<8 | q.kind)
	return kind, kind - 1, append([]byte{q.family, 0, 0, 0}, q.attrs...)
}

// dump sends q and calls each with the attributes of every answer, which are valid only during the call. What each returns as
// false ends it; the rest of the dump is thrown away. A dump is begun again, by reset, when the rules changed in the middle.
func (c *nftConn) dump(q request, reset func(), each func(family uint8, b []byte) bool) error {
	var ended bool
	var bad error
	request, reply, data := q.parts()
	err := c.conn.Dump(request, reply, data, func() { ended, bad = false, nil; reset() }, func(b []byte) error {
		if !ended {
			if bad = wellFormedNFT(b); bad == nil {
				ended = !each(b[0], b[nfgenmsgLength:])
			}
			ended = ended || bad != nil
		}
		return nil
	})
	return nftError(errors.Join(err, bad))
}

// get sends q and returns the attributes of the one answer.
func (c *nftConn) get(q request) (nested, error) {
	b, err := c.conn.Get(q.parts())
	if err == nil {
		err = wellFormedNFT(b)
	}
	if err != nil {
		return nil, nftError(err)
	}
	return parseNested(b[nfgenmsgLength:]), nil
}

func wellFormedNFT(b []byte) error {
	if len(b) < nfgenmsgLength || !nl.WellFormed(b[nfgenmsgLength:]) {
		return nl.ErrMalformed
	}
	return nil
}

func nftError(err error) error {
	switch {
	case err == nil:
		return nil
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
	n, err := c.get(request{kind: msgGetGen})
	return n.be32(1), err // NFTA_GEN_ID
}
