// Command record writes seeds for the fuzz targets: what the running kernel says, in a network namespace made for it, to the requests
// that the readers send. It needs root and is run from the module's folder.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"vxlan_exporter/test/lab"
)

func main() {
	if err := record(); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record() (err error) {
	ns, err := lab.NewNS("record")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	// Routes that name nexthop objects say nothing else: what the others say stands there without.
	if _, err := ns.Run("sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0"); err != nil {
		return err
	}
	if _, err := ns.RunInput(network, "ip", "-batch", "-"); err != nil {
		return err
	}
	if _, err := ns.Run("bridge", "fdb", "append", "02:00:00:00:00:02", "dev", "flannel.1", "dst", "192.0.2.2"); err != nil {
		return err
	}
	if _, err := ns.Run("bridge", "fdb", "add", "02:00:00:00:00:09", "dev", "flannel.1", "nhid", "10"); err != nil {
		return err
	}
	return ns.Do(func() error {
		return errors.Join(links(), events(ns), surroundings(), flows(), sets())
	})
}

// network has VXLAN devices on both families, and routes, neighbours and addresses that belong to them.
const network = `link add nic type veth peer name far
addr add 192.0.2.1/24 dev nic
addr add 2001:db8::1/64 dev nic nodad
link set nic up
link set far up
link add flannel.1 type vxlan id 1 dstport 8472 dev nic local 192.0.2.1 nolearning
link add six type vxlan id 3 dstport 4789 local 2001:db8::1 udp6zerocsumrx
addr add 10.244.0.0/32 dev flannel.1
addr add fd00:10:244::/128 dev flannel.1 nodad
link set flannel.1 up
route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
route add fd00:10:244:1::/64 dev flannel.1
route add 10.244.2.0/24 nexthop via 10.244.1.0 dev flannel.1 onlink nexthop via 192.0.2.2 dev nic weight 2
route add fd00:10:244:2::/64 nexthop via fe80::9 dev flannel.1 nexthop via 2001:db8::2 dev nic
nexthop add id 5 dev flannel.1
nexthop add id 6 via 192.0.2.2 dev nic
nexthop add id 7 group 5/6,3
nexthop add id 8 via 2001:db8::2 dev nic
nexthop add id 9 via 192.0.2.3 fdb
nexthop add id 10 group 9 fdb
route add 10.244.5.0/24 nhid 5
route add 10.244.7.0/24 nhid 7
route add fd00:10:244:8::/64 nhid 8
neigh add 10.244.1.0 lladdr 02:00:00:00:00:02 dev flannel.1
`

// seeds writes the corpus of one target: for each seed, its arguments as the fuzz target takes them. Seeds of the same kernel that
// were there before are replaced.
func seeds(target string, all ...[]any) error {
	if len(all) == 0 {
		return fmt.Errorf("%s: the kernel said nothing", target)
	}
	folder := filepath.Join(filepath.Dir(target), "testdata/fuzz", filepath.Base(target))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	prefix, err := kernel()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(folder, prefix+"-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for i, arguments := range all {
		var text strings.Builder
		text.WriteString("go test fuzz v1\n") // internal/fuzz, encoding.go
		for _, a := range arguments {
			switch a := a.(type) {
			case []byte:
				fmt.Fprintf(&text, "[]byte(%q)\n", a)
			case bool:
				fmt.Fprintf(&text, "bool(%t)\n", a)
			default:
				return fmt.Errorf("%s: no seed can hold a %T", target, a)
			}
		}
		path := filepath.Join(folder, fmt.Sprintf("%s-%02d", prefix, i+1))
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%s: %d seeds\n", target, len(all))
	return nil
}

// kernel names the kernel that seeds come from: linux-6.18.
func kernel() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	numbers := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	return "linux-" + strings.Join(numbers[:min(2, len(numbers))], "."), nil
}

// each makes a seed of each message.
func each(messages [][]byte) (all [][]any) {
	for _, m := range messages {
		all = append(all, []any{m})
	}
	return all
}
