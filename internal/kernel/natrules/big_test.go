package natrules

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/label"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

const serviceRules = 50_000

// bigTable is kube-proxy's nat table of a large cluster, with its fixed KUBE-POSTROUTING: two rules in KUBE-SERVICES, a chain of
// three and a chain of two for every service, with the comments that make up most of its size.
func bigTable() string {
	var chains, rules strings.Builder
	for i := range serviceRules / 7 {
		ip := fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255)
		fmt.Fprintf(&chains, ":KUBE-SVC-%d - [0:0]\n:KUBE-SEP-%d - [0:0]\n", i, i)
		fmt.Fprintf(&rules, `-A KUBE-SERVICES -d %[2]s/32 -p tcp -m comment --comment "default/svc-%[1]d:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-%[1]d
-A KUBE-SERVICES -d %[2]s/32 -p udp -m comment --comment "default/svc-%[1]d:udp cluster IP" -m udp --dport 80 -j KUBE-SVC-%[1]d
-A KUBE-SVC-%[1]d ! -s 10.244.0.0/16 -d %[2]s/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-%[1]d -m statistic --mode random --probability 0.5 -j KUBE-SEP-%[1]d
-A KUBE-SVC-%[1]d -j KUBE-SEP-%[1]d
-A KUBE-SEP-%[1]d -s 10.244.1.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-%[1]d -p tcp -m tcp -j DNAT --to-destination 10.244.1.1:80
`, i, ip)
	}
	return "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n" + chains.String() +
		strings.SplitAfterN(kubeFixed, "\n", 2)[0] + "-A OUTPUT -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n" +
		strings.SplitAfterN(kubeFixed, "\n", 2)[1] + rules.String() + "COMMIT\n"
}

func bigNode(t *testing.T, backend string) *labtest.NS {
	t.Helper()
	if backend == NFT {
		labtest.NeedRoot(t, "iptables-nft-restore sends more at once than net.core.wmem_max")
	}
	ns := labtest.New(t, "big")
	ns.RunInput(bigTable(), "iptables-"+backend+"-restore")
	return ns
}

// TestBigTables finds the guard among 50,000 service rules.
func TestBigTables(t *testing.T) {
	for _, backend := range []string{Legacy, NFT} {
		t.Run(backend, func(t *testing.T) {
			bigNode(t, backend).Do(func() error {
				return findGuard(t, NewReader(Config{ProcNet: lab.ThreadProc() + "/net"}), backend)
			})
		})
	}
}

func findGuard(t *testing.T, r *Reader, backend string) error {
	s, err := r.Read(context.Background(), Input{Ports: []Port{podsAndNode(false)}})
	if err != nil {
		return err
	}
	if g := findRuleset(s, label.IPv4, backend); g.MarkState != MarkCleared || g.RandomFully == nil || !*g.RandomFully {
		t.Errorf("judged %+v", g)
	}
	return nil
}
