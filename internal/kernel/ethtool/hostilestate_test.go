package ethtool_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
)

// answering is a family "ethtool" that answers every question about state alike.
type answering struct {
	*genl
	reply uint8
	data  [][]byte
}

func (a answering) Execute(m genetlink.Message, _ uint16, _ netlink.HeaderFlags) ([]genetlink.Message, error) {
	a.calls++
	var all []genetlink.Message
	for _, b := range a.data {
		all = append(all, genetlink.Message{Header: genetlink.Header{Command: a.reply}, Data: b})
	}
	return all, a.err
}

func stateOf(a answering) *ethtool.Client {
	return ethtool.NewClient(ethtool.Config{OpenNetlink: func() (ethtool.NetlinkConn, error) { return a, nil }})
}

func flagsReply(names ...string) []byte {
	return encode(func(ae *netlink.AttributeEncoder) {
		nest(ae, 2, func(ae *netlink.AttributeEncoder) {
			ae.Uint32(2, uint32(len(names)))
			nest(ae, 3, func(ae *netlink.AttributeEncoder) {
				for i, name := range names {
					nest(ae, 1, func(ae *netlink.AttributeEncoder) {
						ae.Uint32(1, uint32(i))
						ae.String(2, strings.TrimPrefix(name, "+"))
						ae.Flag(3, strings.HasPrefix(name, "+"))
					})
				}
			})
		})
	})
}

func TestChecksumFlags(t *testing.T) {
	many := make([]string, 1025)
	for i := range many {
		many[i] = fmt.Sprint("csum", i)
	}
	good := flagsReply("+rx_csum_complete", "legacy-rx", "tx-checksum\xff")
	for _, c := range []struct {
		name  string
		reply uint8
		data  [][]byte
		want  map[string]bool
	}{
		{"flags", 14, [][]byte{good}, map[string]bool{"rx_csum_complete": true, "tx-checksum\uFFFD": false}},
		{"no flags", 14, [][]byte{flagsReply()}, map[string]bool{}},
		{"none of them about checksums", 14, [][]byte{flagsReply("legacy-rx")}, map[string]bool{}},
		{"no reply", 14, nil, nil},
		{"two replies", 14, [][]byte{good, good}, nil},
		{"the reply to another question", 13, [][]byte{good}, nil},
		{"truncated", 14, [][]byte{good[:len(good)-3]}, nil},
		{"truncated within", 14, [][]byte{append([]byte{12, 0, 2, 0x80}, 8, 0, 3, 0x80, 9, 0, 1, 0x80)}, nil},
		{"very many", 14, [][]byte{flagsReply(many...)}, nil},
	} {
		got, err := stateOf(answering{&genl{}, c.reply, c.data}).ChecksumFlags(context.Background(), d)
		if !maps.Equal(got, c.want) || (err == nil) != (c.want != nil) || err != nil && !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestLinkUp(t *testing.T) {
	link := func(b ...byte) []byte { return encode(func(ae *netlink.AttributeEncoder) { ae.Bytes(2, b) }) }
	for _, c := range []struct {
		name string
		data []byte
		up   bool
		want string // in the error
	}{
		{"up", link(1), true, ""},
		{"down", link(0), false, ""},
		{"the driver does not say", nil, false, errors.ErrUnsupported.Error()},
		{"two bytes", link(1, 0), false, "malformed"},
		{"truncated", link(1)[:3], false, "malformed"},
	} {
		up, err := stateOf(answering{&genl{}, 6, [][]byte{c.data}}).LinkUp(context.Background(), d)
		if up != c.up || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, up, err)
		}
	}
}

// TestRefusalKeepsTheSocket: a device that is gone, or a driver without an answer, is no reason to open another socket; a system call
// that failed is.
func TestRefusalKeepsTheSocket(t *testing.T) {
	for err, closed := range map[error]int{
		error(&netlink.OpError{Op: "receive", Err: unix.EOPNOTSUPP}):                                0,
		error(&netlink.OpError{Op: "receive", Err: unix.ENODEV}):                                    0,
		error(&netlink.OpError{Op: "receive", Err: unix.ENOENT}):                                    1, // the family is gone
		error(&netlink.OpError{Op: "receive", Err: os.NewSyscallError("recvmsg", unix.ENOBUFS)}):    1,
		error(&netlink.OpError{Op: "receive", Err: os.NewSyscallError("recvmsg", unix.EOPNOTSUPP)}): 1,
		error(&netlink.OpError{Op: "receive", Err: os.ErrDeadlineExceeded}):                         1,
		error(&netlink.OpError{Op: "validate", Err: errors.New("mismatched sequence")}):             1,
	} {
		g := &genl{err: err}
		c := stateOf(answering{g, 6, nil})
		if _, got := c.LinkUp(context.Background(), d); got == nil || g.closed != closed || g.deadline.IsZero() {
			t.Errorf("%v: %v, closed %d times, want %d", err, got, g.closed, closed)
		}
	}
}
