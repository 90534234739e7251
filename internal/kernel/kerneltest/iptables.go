package kerneltest

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/natrules"
)

// OpenLegacy is an opener of natrules. There is one table, nat of IPv4; Proc lists none, so that nobody asks for it
// before net/ip_tables_names has its name.
func (k *Kernel) OpenLegacy(ipv6 bool) (natrules.LegacySocket, error) {
	if err := k.opened(Legacy); err != nil {
		return nil, err
	}
	return legacySocket{k, ipv6}, nil
}

type legacySocket struct {
	k    *Kernel
	ipv6 bool
}

func (s legacySocket) Close() error {
	s.k.closed(Legacy)
	return nil
}

// Getsockopt answers SO_IP_SET, and IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES as do_ipt_get_ctl does
// (net/ipv4/netfilter/ip_tables.c). The fault Receive is of the second.
func (s legacySocket) Getsockopt(option int, b []byte) error {
	if option == 83 {
		return s.k.ipSetName(b)
	}
	f, changed := s.k.fault(Legacy)
	table := natTable()
	switch {
	case f.Hung:
		<-changed
	case f.Refuse != nil:
		return f.Refuse
	case s.ipv6, unix.ByteSliceToString(b[:32]) != "nat":
		return unix.ENOENT
	}
	put := func(at int, values ...int) {
		for i, v := range values {
			binary.NativeEndian.PutUint32(b[at+4*i:], uint32(v)) //nolint:gosec // small
		}
	}
	switch option {
	case 64:
		// struct ipt_getinfo {char name[32]; u32 valid_hooks, hook_entry[5], underflow[5], num_entries, size}: the policies
		// of PREROUTING, INPUT, OUTPUT and POSTROUTING come one after the other, the last with a rule before it.
		rule := len(masquerading())
		put(32, 1<<0|1<<1|1<<3|1<<4)
		put(36, 0, policy, 0, 2*policy, 3*policy)
		put(56, 0, policy, 0, 2*policy, 3*policy+rule)
		put(76, 6, len(table))
		if f.Size != 0 {
			binary.NativeEndian.PutUint32(b[80:], f.Size)
		}
		return nil
	case 65:
		// struct ipt_get_entries {char name[32]; u32 size; struct ipt_entry entrytable[]}
		const entries = 40
		if f.Receive != nil {
			return f.Receive
		}
		if n := int(binary.NativeEndian.Uint32(b[32:])); n != len(table) && (f.Size == 0 || n > len(table)) {
			return unix.EAGAIN
		}
		copy(b[entries:], table)
		return nil
	}
	return unix.EINVAL
}

// Sizes of struct ipt_entry and of an entry that is a verdict and nothing else (struct xt_standard_target).
const (
	entrySize = 112
	policy    = entrySize + 40
)

// natTable is kube-proxy's old rule at POSTROUTING.
func natTable() []byte {
	accept := entry(nil, extension(36, "", 0, 0xfffffffe)) // -NF_ACCEPT - 1
	end := entry(nil, extension(62, "ERROR", 0))
	return slices.Concat(accept, accept, accept, masquerading(), accept, end)
}

// masquerading: what carries kube-proxy's mark is masqueraded, fully random (struct xt_mark_mtinfo1 {u32 mark, mask; u8
// invert}, struct nf_nat_ipv4_multi_range_compat {u32 rangesize; struct nf_nat_ipv4_range {u32 flags; …}}).
func masquerading() []byte {
	return entry(extension(44, "mark", 1, 0x4000, 0x4000), extension(52, "MASQUERADE", 0, 1, 0x10))
}

// entry is struct ipt_entry with match and target; it matches every packet by itself.
func entry(match, target []byte) []byte {
	b := slices.Concat(make([]byte, entrySize), match, target)
	binary.NativeEndian.PutUint16(b[88:], uint16(entrySize+len(match))) //nolint:gosec // small
	binary.NativeEndian.PutUint16(b[90:], uint16(len(b)))               //nolint:gosec // small
	return b
}

// extension is struct xt_entry_match or xt_entry_target {u16 size; char name[29]; u8 revision} of so many bytes,
// aligned.
func extension(size int, name string, revision byte, words ...uint32) []byte {
	b := make([]byte, (size+7)&^7)
	binary.NativeEndian.PutUint16(b, uint16(len(b))) //nolint:gosec // small
	copy(b[2:31], name)
	b[31] = revision
	for i, w := range words {
		binary.NativeEndian.PutUint32(b[32+4*i:], w)
	}
	return b
}
