package procnet

import "github.com/prometheus/procfs"

// Processed returns how many packets the machine has taken in, as the kernel handles them: those that GRO has put
// together count as one, those that come out of a tunnel once more. It is the first column of /proc/net/softnet_stat,
// processed of struct softnet_data, summed over all CPUs and network namespaces (softnet_seq_show,
// net/core/net-procfs.c). Each CPU's counter has 32 bits and wraps.
func Processed(proc string) (sum uint64, err error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return 0, err
	}
	cpus, err := fs.NetSoftnetStat()
	for _, cpu := range cpus {
		sum += uint64(cpu.Processed)
	}
	return sum, err
}
