package natrules

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/label"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// TestReadingLeavesNothingBehind reads a fresh namespace, which has no legacy table, and still has none afterwards.
func TestReadingLeavesNothingBehind(t *testing.T) {
	ns := labtest.New(t, "fresh")
	ns.Do(func() error {
		s, err := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"}).Read(context.Background(), Input{Ports: []Port{{Port: vxlanPort, IPv4: true, IPv6: true}}})
		if err != nil {
			return err
		}
		for _, r := range s.Rulesets {
			if r.Status != label.None || r.MarkState != MarkAbsent {
				t.Errorf("%s %s: %s, %s", r.Family, r.Backend, r.Status, r.MarkState)
			}
		}
		for _, o := range s.Outer {
			if o.Change != NoChange || o.Why != WhyNoRule {
				t.Errorf("%s: %s because of %s", o.Family, o.Change, o.Why)
			}
		}
		return nil
	})
	for _, file := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		if out := ns.Run("cat", file); out != "" {
			t.Errorf("%s now lists %q", file, out)
		}
	}
	if out := ns.Run("nft", "list", "ruleset"); out != "" {
		t.Errorf("nft now lists %q", out)
	}
	// The check itself: asking for a table does make it.
	ns.Do(func() error {
		table, err := openLegacy(openLegacySocket, "nat", false)
		if err != nil {
			return err
		}
		table.close()
		return nil
	})
	if out := ns.Run("cat", "/proc/net/ip_tables_names"); !strings.Contains(out, "nat") {
		t.Errorf("asking for a table made none: this test proves nothing: %q", out)
	}
}

// TestWithoutCapability reads rules as a process that has no CAP_NET_ADMIN, and as one that may not even see which tables there are.
func TestWithoutCapability(t *testing.T) {
	ns := labtest.New(t, "nocap")
	ns.RunInput("*nat\n"+kubeOld+"COMMIT\n", "iptables-legacy-restore")
	ns.RunInput("*nat\n"+kubeOld+"COMMIT\n", "iptables-nft-restore")
	for _, user := range []int{0, 65534} {
		t.Run(fmt.Sprint("uid ", user), func(t *testing.T) {
			if user != 0 {
				labtest.NeedRoot(t, "it reads as another user")
			}
			ns.Do(func() error {
				runtime.LockOSThread() // the thread ends with its goroutine: what it gave up does not come back
				if user != 0 {
					if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), uintptr(user)); errno != 0 {
						return errno
					}
				}
				header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				var data [2]unix.CapUserData
				if err := unix.Capset(&header, &data[0]); err != nil {
					return err
				}
				in := Input{Ports: []Port{{Port: vxlanPort, IPv4: true}}}
				s, err := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"}).Read(context.Background(), in)
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "needs CAP_NET_ADMIN") {
					t.Errorf("uid %d: error %v", user, err)
				}
				for _, backend := range []string{Legacy, NFT} {
					if r := findRuleset(s, label.IPv4, backend); r.Status != label.NotPermitted ||
						r.MarkState != MarkUnknown || r.Error == "" {
						t.Errorf("uid %d: %s: %+v", user, backend, r)
					}
				}
				if o := s.Outer[0]; o.Change != UnsureChange || o.Why != WhyUnread {
					t.Errorf("uid %d: outer %+v", user, o)
				}
				return nil
			})
		})
	}
}

// TestGate has every way in which the presence of nf_tables shows, or does not.
func TestGate(t *testing.T) {
	const release = "4.18.0-test"
	base := map[string]string{"proc/sys/kernel/osrelease": release + "\n"}
	for _, c := range []struct {
		name    string
		files   map[string]string
		want    bool
		refused bool
	}{
		{"loaded", map[string]string{"proc/modules": "nf_tables 1 2 nft_compat, Live 0x0\n"}, true, false},
		{"in sysfs", map[string]string{"proc/modules": "", "sys/module/nf_tables/refcnt": "1\n"}, true, false},
		{"no modules at all", nil, true, false},
		{"modules locked", map[string]string{"proc/modules": "ext4 1 0 - Live 0x0\n", "proc/sys/kernel/modules_disabled": "1\n"}, true, false},
		{"module not loaded", map[string]string{"proc/modules": "nf_tables_set 1 0 - Live 0x0\n", "boot/config-" + release: "CONFIG_X=y\nCONFIG_NF_TABLES=m\n"}, false, false},
		{"built in, by /boot", map[string]string{"proc/modules": "", "boot/config-" + release: "#\nCONFIG_NF_TABLES=y\n"}, true, false},
		{"built in, by config.gz", map[string]string{"proc/modules": "", "proc/config.gz": "#\nCONFIG_NF_TABLES=y\n"}, true, false},
		{"not built in, by config.gz", map[string]string{"proc/modules": "", "proc/config.gz": "#\n# CONFIG_NF_TABLES is not set\n"}, false, false},
		{"built in, by modules.builtin", map[string]string{"proc/modules": "", "modules/" + release + "/modules.builtin": "kernel/net/netfilter/nf_tables.ko\n"}, true, false},
		{"a module, by modules.builtin", map[string]string{"proc/modules": "", "modules/" + release + "/modules.builtin": "kernel/net/netfilter/x_tables.ko\n"}, false, false},
		{"built in, by its symbols", map[string]string{"proc/modules": "", "proc/kallsyms": "0000000000000000 T nft_do_chain\n"}, true, false},
		{"not built in, by its symbols", map[string]string{"proc/modules": "", "proc/kallsyms": "0 t xnft_do_chain\n0 t nft_do_chain\t[nf_tables]\n"}, false, false},
		{"nothing that tells exists", map[string]string{"proc/modules": ""}, false, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			dir := t.TempDir()
			for _, files := range []map[string]string{base, c.files} {
				for name, text := range files {
					writeFile(t, filepath.Join(dir, name), text)
				}
			}
			g := gate{proc: filepath.Join(dir, "proc"), sys: filepath.Join(dir, "sys"), boot: filepath.Join(dir, "boot"), modules: filepath.Join(dir, "modules")}
			got, err := g.nftables()
			if got != c.want || (err != nil) != c.refused || c.refused && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if _, err := (&gate{proc: t.TempDir()}).nftables(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a hidden /proc: %v", err)
	}
	// Root may read everything; what cannot be opened for another reason stands for what may not be read.
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "proc/modules"), "")
	writeFile(t, filepath.Join(dir, "proc/sys/kernel/osrelease"), release)
	writeFile(t, filepath.Join(dir, "boot"), "")
	if _, err := (&gate{proc: filepath.Join(dir, "proc"), boot: filepath.Join(dir, "boot"), modules: dir}).nftables(); !errors.Is(err, errHidden) {
		t.Errorf("a file that cannot be opened: %v", err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if strings.HasSuffix(path, ".gz") {
		z := gzip.NewWriter(f)
		_, err = z.Write([]byte(text))
		err = errors.Join(err, z.Close())
	} else {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestQuotes compares rules as they are quoted with what iptables-save prints of the same tables.
func TestQuotes(t *testing.T) {
	rules := []string{
		"-A POSTROUTING -s 10.0.0.0/8 ! -d 10.244.0.0/16 -o eth+ -p udp -m udp --dport 8472 -j MASQUERADE --random-fully",
		"-A POSTROUTING ! -o docker0 -m mark ! --mark 0x4000/0x4000 -j RETURN",
		"-A POSTROUTING -p tcp -m tcp --sport 1:1024 ! --dport 80 -m comment --comment \"two words\" -j ACCEPT",
		"-A POSTROUTING -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --dst-type UNICAST -j MARK --set-xmark 0x1/0xff",
		"-A POSTROUTING -p udp -m multiport --dports 4789,8000:9000 -m conntrack --ctstate NEW,UNTRACKED -j KUBE-X",
		"-A POSTROUTING -m iprange --src-range 10.0.0.1-10.0.0.9 -g KUBE-X",
		"-A POSTROUTING -j SNAT --to-source 192.0.2.1 --random",
		"-A KUBE-X -m state --state NEW -m comment --comment one",
	}
	for _, backend := range []string{Legacy, NFT} {
		t.Run(backend, func(t *testing.T) {
			ns := labtest.New(t, "quote")
			ns.RunInput("*nat\n:KUBE-X - [0:0]\n"+strings.Join(rules, "\n")+"\nCOMMIT\n", "iptables-"+backend+"-restore")
			var saved, quoted []string
			for line := range strings.Lines(ns.Run("iptables-"+backend+"-save", "-t", "nat")) {
				if strings.HasPrefix(line, "-A") {
					saved = append(saved, strings.TrimSpace(line))
				}
			}
			ns.Do(func() error {
				var bases []*base
				if backend == Legacy {
					r := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"})
					set, open := r.readLegacy(false, lookups{sets: newIPSets(context.Background(), nl.Netfilter, openLegacySocket)})
					defer func() {
						for _, table := range open {
							table.close()
						}
					}()
					bases = set.bases
				} else {
					tables, err := openNFT(context.Background(), nl.Netfilter)
					if err != nil {
						return err
					}
					defer tables.close()
					set, _ := tables.rulesets()
					bases = set.bases
				}
				seen := map[*chain]bool{}
				var quote func(c *chain)
				quote = func(c *chain) {
					if c == nil || seen[c] {
						return
					}
					seen[c] = true
					if err := c.read(); err != nil {
						t.Error(err)
					}
					for _, r := range c.rules {
						quoted = append(quoted, r.text)
						quote(r.to)
					}
				}
				for _, b := range bases {
					quote(b.chain)
				}
				return nil
			})
			slices.Sort(saved)
			slices.Sort(quoted)
			if !slices.Equal(saved, quoted) {
				t.Errorf("iptables-save prints\n%s\nquoted\n%s", strings.Join(saved, "\n"), strings.Join(quoted, "\n"))
			}
		})
	}
}
