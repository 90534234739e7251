package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

const (
	msgGetStatsCPU  = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4 // IPCTNL_MSG_CT_GET_STATS_CPU, 3.6
	ctaStatsInvalid = 4                                 // CTA_STATS_INVALID, be32
)

// Invalid sums over all CPUs the packets that connection tracking judged invalid, as /proc/net/stat/nf_conntrack has
// them on kernels that are built with it (CONFIG_NF_CONNTRACK_PROCFS). It needs CAP_NET_ADMIN. Connection tracking must
// be there, which Sysctls.Count tells: the request can load it. The error wraps fs.ErrPermission without the
// capability, errors.ErrUnsupported without ctnetlink.
func Invalid(ctx context.Context, open nl.Opener) (sum uint64, err error) {
	conn, err := nl.Dial(ctx, open)
	if err != nil {
		return 0, fmt.Errorf("conntrack: invalid packets: %w", err)
	}
	defer func() { _ = conn.Close() }()
	cpus := 0
	request := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}
	err = conn.Dump(msgGetStatsCPU, msgGetStatsCPU, request, func() { sum, cpus = 0, 0 }, func(b []byte) error {
		n, err := parseInvalid(b)
		sum += uint64(n)
		cpus++
		return err
	})
	switch {
	// nfnetlink_rcv_msg, without ctnetlink or this request
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	case err == nil && cpus == 0:
		err = fmt.Errorf("%w: of no CPU", nl.ErrMalformed)
	}
	if err != nil {
		return 0, fmt.Errorf("conntrack: invalid packets: %w", err)
	}
	return sum, nil
}

// parseInvalid reads the counter of one CPU. A sum that lacks a CPU would look like a counter that was reset.
func parseInvalid(b []byte) (uint32, error) {
	if len(b) >= sizeofNfGenMsg && nl.WellFormed(b[sizeofNfGenMsg:]) {
		for typ, v := range nl.Attrs(b[sizeofNfGenMsg:]) {
			if typ == ctaStatsInvalid && len(v) == 4 {
				return binary.BigEndian.Uint32(v), nil
			}
		}
	}
	return 0, nl.ErrMalformed
}
