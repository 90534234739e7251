package selftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kernelversion"
)

// addLegacyNAT makes the rule of addNAT in ip_tables' table nat, for kernels without nf_tables. In iptables' words:
//
//	iptables -t nat -A POSTROUTING -p udp --sport FROM --dport TO -j SNAT --to-source :INTO
//
// Up to 4.5 the hooks of that table are in every namespace as soon as its module is loaded; there it is used only where
// it is loaded.
func (r *rig) addLegacyNAT(family uint8, from, to, into uint16) error {
	t := legacyTable{level: unix.IPPROTO_IP, entry: 112, proto: 80, offsets: 88}
	names := "ip_tables_names"
	if family == unix.AF_INET6 {
		t = legacyTable{level: unix.IPPROTO_IPV6, entry: aligned(148) + 16, proto: 128, protoFlag: 131, offsets: 140}
		names = "ip6_tables_names"
	}
	if kernelversion.Before(r.release, 4, 6) {
		text, err := os.ReadFile(filepath.Join(r.proc, fmt.Sprintf("self/task/%d/net", unix.Gettid()), names))
		if err != nil || !slices.Contains(strings.Fields(string(text)), "nat") {
			return errors.New("the table nat of ip_tables is not loaded, and loading it would switch it on for the whole node " +
				"on this kernel")
		}
	}
	fd, err := unix.Socket(int(family), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)

	// struct ipt_getinfo {char name[32]; u32 valid_hooks, hook_entry[5], underflow[5], num_entries, size}
	info := make([]byte, 84)
	copy(info, "nat")
	size := uint32(len(info)) //nolint:gosec // 84
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(t.level), replaceOption,
		uintptr(unsafe.Pointer(unsafe.SliceData(info))), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return fmt.Errorf("table nat: %w", errno)
	}
	// The counters of the entries that are replaced come back: struct xt_counters {u64 pcnt, bcnt} for each.
	counters := make([]byte, 16*binary.NativeEndian.Uint32(info[76:])+1)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(unsafe.SliceData(counters))

	blob := t.replace(binary.NativeEndian.Uint32(info[32:]), t.snat(from, to, into))
	copy(blob[84:], info[76:80])
	*(*uintptr)(unsafe.Pointer(&blob[88])) = uintptr(unsafe.Pointer(unsafe.SliceData(counters)))
	if err := unix.SetsockoptString(fd, t.level, replaceOption, string(blob)); err != nil {
		return fmt.Errorf("table nat: rule: %w", err)
	}
	return nil
}

// replaceOption is IPT_SO_SET_REPLACE, IP6T_SO_SET_REPLACE and, for getsockopt, the _GET_INFO of both.
const replaceOption = 64

// legacyTable holds what differs between struct ipt_entry and struct ip6t_entry
// (include/uapi/linux/netfilter_ipv{4,6}/ip*_tables.h).
type legacyTable struct {
	level int
	// size of an entry, and where in it stand proto, flags (where proto needs one) and target_offset
	entry, proto, protoFlag, offsets int
}

// replace is struct ipt_replace {char name[32]; u32 valid_hooks, num_entries, size, hook_entry[5], underflow[5],
// num_counters; struct xt_counters *counters; struct ipt_entry entries[]}, with the policy ACCEPT at each hook and rule
// at POSTROUTING. The counters are left to the caller.
func (t legacyTable) replace(hooks uint32, rule []byte) []byte {
	b := make([]byte, aligned(88+int(unsafe.Sizeof(uintptr(0)))))
	copy(b, "nat")
	put := func(at int, n int) { binary.NativeEndian.PutUint32(b[at:], uint32(n)) } //nolint:gosec // small
	entries, number := []byte{}, 1
	for hook := range unix.NF_INET_NUMHOOKS {
		if hooks&(1<<hook) == 0 {
			continue
		}
		put(44+4*hook, len(entries))
		if hook == unix.NF_INET_POST_ROUTING {
			entries = append(entries, rule...)
			number++
		}
		put(64+4*hook, len(entries))
		// -NF_ACCEPT - 1
		entries = append(entries, t.rule(0, nil, extension("", 0, binary.NativeEndian.AppendUint32(nil, 0xfffffffe)))...)
		number++
	}
	entries = append(entries, t.rule(0, nil, extension("ERROR", 0, append([]byte("ERROR"), make([]byte, 25)...)))...)
	put(32, int(hooks))
	put(36, number)
	put(40, len(entries))
	return append(b, entries...)
}

// snat has the match udp (struct xt_udp {u16 spts[2], dpts[2]; u8 invflags}) and SNAT of revision 1, which knows both
// families (struct nf_nat_range {u32 flags; union nf_inet_addr min_addr, max_addr; be16 min_proto, max_proto}).
func (t legacyTable) snat(from, to, into uint16) []byte {
	var ports []byte
	for _, p := range []uint16{from, from, to, to, 0} {
		ports = binary.NativeEndian.AppendUint16(ports, p)
	}
	const protoSpecified = 2 // NF_NAT_RANGE_PROTO_SPECIFIED
	nat := append(binary.NativeEndian.AppendUint32(nil, protoSpecified), make([]byte, 32)...)
	return t.rule(unix.IPPROTO_UDP, extension("udp", 0, ports),
		extension("SNAT", 1, append(nat, append(be16(into), be16(into)...)...)))
}

func (t legacyTable) rule(proto byte, match, target []byte) []byte {
	b := slices.Concat(make([]byte, t.entry), match, target)
	binary.NativeEndian.PutUint16(b[t.proto:], uint16(proto))
	if proto != 0 && t.protoFlag != 0 {
		b[t.protoFlag] = 1 // IP6T_F_PROTO
	}
	binary.NativeEndian.PutUint16(b[t.offsets:], uint16(t.entry+len(match))) //nolint:gosec // small
	binary.NativeEndian.PutUint16(b[t.offsets+2:], uint16(len(b)))           //nolint:gosec // small
	return b
}

// extension is struct xt_entry_match or xt_entry_target {u16 size; char name[29]; u8 revision}, with its data, aligned.
func extension(name string, revision byte, data []byte) []byte {
	b := make([]byte, 32+aligned(len(data)))
	binary.NativeEndian.PutUint16(b, uint16(len(b))) //nolint:gosec // small
	copy(b[2:], name)
	b[31] = revision
	copy(b[32:], data)
	return b
}

// aligned is XT_ALIGN: the alignment of a 64-bit number in a structure.
func aligned(n int) int {
	const to = int(unsafe.Alignof(struct {
		_ uint8
		n uint64
	}{}.n))
	return (n + to - 1) &^ (to - 1)
}
