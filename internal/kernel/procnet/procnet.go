// Package procnet reads the counters and sockets that the kernel shows below /proc/net: snmp, snmp6 and softnet_stat by
// github.com/prometheus/procfs, which has no TcpTimeoutRehash, keeps a list of all UDP sockets, and demands the
// columns of one kernel of stat/nf_conntrack. These are read here, by the names in the header, since fields come and
// go between kernels.
package procnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Want says where a counter goes, by its name in the file. A field that the file lacks leaves its destination alone
// (nil).
type Want map[string]**uint64

// maxLine bounds one line. The longest known, TcpExt of /proc/net/netstat, has about 3 KiB.
const maxLine = 64 << 10

// Table reads counters from a file of line pairs, names and then values, each starting with "Proto:":
// /proc/net/netstat (net/ipv4/proc.c, netstat_seq_show). Wanted names are "Proto Field", as in "TcpExt TCPSynRetrans".
// The error names every malformed line; what the other lines say has been stored all the same.
func Table(path string, want Want) error {
	var names []byte
	err := eachLine(path, func(line []byte) error {
		if len(names) == 0 {
			names = append(names, line...)
			return nil
		}
		err := tablePair(names, line, want)
		names = names[:0]
		return err
	})
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%s: ends after the names %.40q", path, names)
	}
	return err
}

// tablePair reads one pair of lines. It checks the whole pair before it stores anything: a pair whose names and values
// do not match one to one says nothing for certain.
func tablePair(names, values []byte, want Want) error {
	n, v := bytes.Fields(names), bytes.Fields(values)
	if len(n) == 0 || !bytes.HasSuffix(n[0], []byte(":")) {
		return fmt.Errorf("line %.40q is not a header", names)
	}
	proto := bytes.TrimSuffix(n[0], []byte(":"))
	if len(n) != len(v) || !bytes.Equal(n[0], v[0]) {
		return fmt.Errorf("%s: %d names but %d values", proto, len(n)-1, max(len(v), 1)-1)
	}
	var errs []error
	key := append(append(make([]byte, 0, 64), proto...), ' ')
	for i := 1; i < len(n); i++ {
		dst, ok := want[string(append(key[:len(proto)+1], n[i]...))]
		if !ok {
			continue
		}
		x, err := strconv.ParseUint(string(v[i]), 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", proto, n[i], err))
			continue
		}
		*dst = &x
	}
	return errors.Join(errs...)
}

// PerCPU sums one column over the lines of a /proc/net/stat file (a header, then a line of hexadecimal numbers for
// each CPU): /proc/net/stat/nf_conntrack (net/netfilter/nf_conntrack_standalone.c, ct_cpu_seq_show). The kernel's
// counters there have 32 bits for each CPU and wrap. nil and no error: this kernel has no such column. Any malformed
// line makes the whole sum unknown, since a sum that lacks a CPU would look like a counter that was reset.
func PerCPU(path, column string) (*uint64, error) {
	var sum uint64
	index, columns, cpus := -1, 0, 0
	err := eachLine(path, func(line []byte) error {
		f := bytes.Fields(line)
		if columns == 0 {
			columns = len(f)
			for i, name := range f {
				if string(name) == column {
					index = i
				}
			}
			return nil
		}
		if len(f) < columns {
			return fmt.Errorf("%d columns instead of %d", len(f), columns)
		}
		cpus++
		if index < 0 {
			return nil
		}
		x, err := strconv.ParseUint(string(f[index]), 16, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", column, err)
		}
		sum += x
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case cpus == 0:
		return nil, fmt.Errorf("%s: no line for any CPU", path)
	case index < 0:
		return nil, nil
	}
	return &sum, nil
}

// eachLine calls f for every line of the file, goes on after an error of f, and returns all of them with the file's
// name.
func eachLine(path string, f func(line []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return scan(file, path, f)
}

// maxFile bounds a file that does not end. A million UDP sockets make 128 MB.
const maxFile = 256 << 20

// maxErrors bounds what a file full of nonsense can make us remember.
const maxErrors = 4

func scan(r io.Reader, path string, f func(line []byte) error) error {
	var errs []error
	limited := &io.LimitedReader{R: r, N: maxFile}
	s := bufio.NewScanner(limited)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for s.Scan() {
		if err := f(s.Bytes()); err != nil && len(errs) < maxErrors {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	if err := s.Err(); err != nil {
		errs = append(errs, fmt.Errorf("read %s: %w", path, err))
	}
	if limited.N == 0 {
		errs = append(errs, fmt.Errorf("read %s: larger than %d MiB", path, maxFile>>20))
	}
	return errors.Join(errs...)
}
