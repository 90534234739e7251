package conntrack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Sysctls reads net.netfilter.* of the network namespace that a procfs shows.
type Sysctls struct {
	count, limit, buckets, udpTimeout string
}

// NewSysctls returns the sysctls below proc, which is "/proc" unless a test says otherwise.
func NewSysctls(proc string) Sysctls {
	all := filepath.Join(proc, "sys/net/netfilter/nf_conntrack_")
	return Sysctls{count: all + "count", limit: all + "max", buckets: all + "buckets", udpTimeout: all + "udp_timeout"}
}

// Count is the number of entries of this namespace (nf_conntrack_count). Its absence is how a kernel says that it
// tracks no connections: the error then wraps fs.ErrNotExist. It must be asked before anything is sent to ctnetlink,
// because a request can load the module, and with it connection tracking.
func (s Sysctls) Count() (uint64, error) {
	n, err := readUint(s.count)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("no connection tracking in this kernel or namespace: %w", err)
	}
	return n, err
}

// Limit is nf_conntrack_max, entries.
func (s Sysctls) Limit() (uint64, error) { return readUint(s.limit) }

// Buckets is nf_conntrack_buckets: hash buckets of the table that all namespaces share.
func (s Sysctls) Buckets() (uint64, error) { return readUint(s.buckets) }

// UDPTimeout is nf_conntrack_udp_timeout: how long a flow that never got an answer, which a VXLAN flow is, outlives its
// last packet.
func (s Sysctls) UDPTimeout() (time.Duration, error) {
	n, err := readUint(s.udpTimeout)
	// proc_dointvec_jiffies of an unsigned int: no kernel shows more.
	if err == nil && n > 1<<32 {
		return 0, fmt.Errorf("read %s: %d seconds is out of range", s.udpTimeout, n)
	}
	return time.Duration(n) * time.Second, err
}

// readUint reads one number.
func readUint(path string) (uint64, error) {
	f, err := openNumber(path)
	if err != nil {
		return 0, err
	}
	defer f.close()
	return f.read()
}

// number is an open sysctl that holds one number. It goes by system calls, not package os, because a scan looks at the
// bucket count again and again and may make few allocations.
type number struct {
	path string
	fd   int
}

func openNumber(path string) (number, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return number{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return number{path, fd}, nil
}

func (f number) close() { unix.Close(f.fd) }

// read reads the number as it is now: the kernel formats it anew for every read from the start (proc_dointvec).
func (f number) read() (uint64, error) {
	var buf [32]byte // a 64-bit number has at most 20 digits
	n, err := unix.Pread(f.fd, buf[:], 0)
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: f.path, Err: err}
	}
	return parseNumber(f.path, buf[:n])
}

func parseNumber(path string, b []byte) (uint64, error) {
	v, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %q is not a number", path, string(b)) // a copy: b itself would move to the heap
	}
	return v, nil
}
