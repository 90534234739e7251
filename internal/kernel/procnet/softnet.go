package procnet

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Processed returns how many packets the machine has taken in, as the kernel handles them: those that GRO has put
// together count as one, those that come out of a tunnel once more. It is the first column of /proc/net/softnet_stat,
// processed of struct softnet_data, summed over all CPUs and network namespaces (softnet_seq_show,
// net/core/net-procfs.c). Each CPU's counter has 32 bits and wraps.
func Processed(path string) (sum uint64, err error) {
	cpus := 0
	err = eachLine(path, func(line []byte) error {
		f := bytes.Fields(line)
		if len(f) == 0 {
			return errors.New("empty line")
		}
		x, err := strconv.ParseUint(string(f[0]), 16, 32)
		if err != nil {
			return fmt.Errorf("processed: %w", err)
		}
		cpus++
		sum += x
		return nil
	})
	if err == nil && cpus == 0 {
		err = fmt.Errorf("%s: no line for any CPU", path)
	}
	return sum, err
}
