package ethtool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// NetlinkConn is what is needed of a generic netlink socket; *genetlink.Conn is one.
type NetlinkConn interface {
	GetFamily(name string) (genetlink.Family, error)
	Execute(m genetlink.Message, family uint16, flags netlink.HeaderFlags) ([]genetlink.Message, error)
	SetDeadline(t time.Time) error
	Close() error
}

// OpenNetlink opens a socket in the network namespace of the calling thread. It sets no option that only newer kernels know.
func OpenNetlink() (NetlinkConn, error) {
	c, err := genetlink.Dial(nil)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Messages and attributes, include/uapi/linux/ethtool_netlink.h.
const (
	msgStrings  = 1  // ETHTOOL_MSG_STRSET_GET, and _REPLY
	msgFeatures = 11 // ETHTOOL_MSG_FEATURES_GET, and _REPLY

	attrHeader      = 1 // ETHTOOL_A_*_HEADER
	attrHeaderIndex = 1 // ETHTOOL_A_HEADER_DEV_INDEX
	attrHeaderFlags = 3 // ETHTOOL_A_HEADER_FLAGS
	compactBitsets  = 1 // ETHTOOL_FLAG_COMPACT_BITSETS

	attrFeaturesHW       = 2 // ETHTOOL_A_FEATURES_HW
	attrFeaturesWanted   = 3
	attrFeaturesActive   = 4
	attrFeaturesNoChange = 5

	attrBitsetSize  = 2 // ETHTOOL_A_BITSET_SIZE, in bits
	attrBitsetValue = 4 // ETHTOOL_A_BITSET_VALUE, words of 32 bits

	attrSets        = 2 // ETHTOOL_A_STRSET_STRINGSETS
	attrSet         = 1 // ETHTOOL_A_STRINGSETS_STRINGSET
	attrSetID       = 1 // ETHTOOL_A_STRINGSET_ID
	attrSetCount    = 2 // ETHTOOL_A_STRINGSET_COUNT
	attrSetStrings  = 3 // ETHTOOL_A_STRINGSET_STRINGS
	attrString      = 1 // ETHTOOL_A_STRINGS_STRING
	attrStringIndex = 1 // ETHTOOL_A_STRING_INDEX
	attrStringValue = 2 // ETHTOOL_A_STRING_VALUE
)

// defaultTimeout bounds a request whose context has no deadline.
const defaultTimeout = 10 * time.Second

// genlReader reads by the generic netlink family "ethtool" (5.6; features since 5.7).
type genlReader struct {
	open   func() (NetlinkConn, error)
	conn   NetlinkConn
	family uint16   // 0 until asked
	names  []string // of the features, by bit; nil until read
	bits   bitmaps
}

func (r *genlReader) close() error {
	if r.conn == nil {
		return nil
	}
	err := r.conn.Close()
	r.conn = nil
	return err
}

func (r *genlReader) features(ctx context.Context, index int) (Features, error) {
	if index <= 0 {
		return nil, fmt.Errorf("index %d: %w", index, unix.ENODEV)
	}
	stop, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	for range 2 {
		if r.names == nil {
			if r.names, err = r.readNames(); err != nil {
				return nil, fmt.Errorf("ETHTOOL_MSG_STRSET_GET: %w", err)
			}
		}
		data, err := r.execute(msgFeatures, msgFeatures, compactBitsets, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(attrHeaderIndex, uint32(index))
		}, nil)
		if err != nil {
			return nil, fmt.Errorf("ETHTOOL_MSG_FEATURES_GET: %w", err)
		}
		count, err := r.bits.decode(data)
		if err != nil {
			return nil, fmt.Errorf("ETHTOOL_MSG_FEATURES_GET: %w", err)
		}
		if count != len(r.names) {
			r.names = nil
			continue
		}
		return r.bits.features(r.names), nil
	}
	return nil, fmt.Errorf("ETHTOOL_MSG_FEATURES_GET: number of features differs from ETHTOOL_MSG_STRSET_GET: %w", errMalformed)
}

// begin makes the socket ready and binds it to ctx.
func (r *genlReader) begin(ctx context.Context) (stop func(), err error) {
	if r.conn == nil {
		if r.conn, err = r.open(); err != nil {
			return nil, fmt.Errorf("open generic netlink socket: %w", err)
		}
	}
	conn := r.conn
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("generic netlink: set deadline: %w", err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if r.family == 0 {
		f, err := conn.GetFamily(unix.ETHTOOL_GENL_NAME)
		if err != nil {
			unhook()
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("no family %q (kernel before 5.6): %w", unix.ETHTOOL_GENL_NAME, errors.ErrUnsupported)
			}
			return nil, errors.Join(fmt.Errorf("generic netlink: %w", err), r.close())
		}
		r.family = f.ID
	}
	return func() { unhook() }, nil
}

// execute sends one request with the flags of ETHTOOL_A_HEADER_FLAGS and returns the attributes of the one reply. A socket that failed
// is closed: an answer that is still under way must not be taken for the answer to the next request.
func (r *genlReader) execute(cmd, reply uint8, flags uint32, header, rest func(ae *netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrHeader, func(nae *netlink.AttributeEncoder) error {
		if header != nil {
			header(nae)
		}
		if flags != 0 {
			nae.Uint32(attrHeaderFlags, flags)
		}
		return nil
	})
	if rest != nil {
		rest(ae)
	}
	b, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	msgs, err := r.conn.Execute(genetlink.Message{
		Header: genetlink.Header{Command: cmd, Version: unix.ETHTOOL_GENL_VERSION}, Data: b,
	}, r.family, netlink.Request)
	if answered(err) {
		return nil, err
	}
	if err != nil {
		r.family = 0
		if errors.Is(err, unix.ENOENT) { // genl_rcv_msg: no such family, any more. Not "no such device", as fs.ErrNotExist would say
			err = fmt.Errorf("the family %q is gone: %w (%s)", unix.ETHTOOL_GENL_NAME, errors.ErrUnsupported, err) //nolint:errorlint // hidden on purpose
		}
		return nil, errors.Join(err, r.close())
	}
	if len(msgs) != 1 || msgs[0].Header.Command != reply {
		return nil, fmt.Errorf("%d replies: %w", len(msgs), errMalformed)
	}
	return msgs[0].Data, nil
}

// answered reports whether err is the kernel's answer about a device, after which the socket is as good as before: not a system call
// that failed, and not the loss of the family.
func answered(err error) bool {
	var op *netlink.OpError
	return errors.As(err, &op) && op.Op == "receive" && !errors.As(err, new(*os.SyscallError)) &&
		(errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV))
}

func (r *genlReader) readNames() ([]string, error) {
	data, err := r.execute(msgStrings, msgStrings, compactBitsets, nil, func(ae *netlink.AttributeEncoder) {
		ae.Nested(attrSets, func(nae *netlink.AttributeEncoder) error {
			nae.Nested(attrSet, func(nae *netlink.AttributeEncoder) error {
				nae.Uint32(attrSetID, stringSet)
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return decodeNames(data)
}
