package diagnosis

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

// TestCommandsRun types every command that the cases lead to into a real shell, in a namespace that has the devices it
// names. What belongs to another place (another node, another namespace) or waits long is left out; a capture's filter
// is compiled instead.
func TestCommandsRun(t *testing.T) {
	ns := labtest.New(t, "vxlan-remedies")
	ns.Run("ip", "link", "set", "lo", "up")
	ns.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	for i, name := range []string{"flannel.1", "flannel.2", "cali", "a';rm$(x)"} {
		ns.Run("ip", "link", "add", name, "type", "vxlan", "id", string(rune('1'+i)), "dev", "eth0", "dstport", "8472")
	}
	ran := 0
	for _, command := range allCommands() {
		switch {
		case strings.Contains(command, "vxlan_exporter"), strings.Contains(command, "NAMESPACE"),
			strings.HasPrefix(command, "sleep"):
			continue
		case strings.Contains(command, "tcpdump"):
			command, _, _ = strings.Cut(strings.Replace(command, "tcpdump", "tcpdump -d", 1), " | ")
			command = strings.ReplaceAll(command, "-ni eth0", "-ni any")
		case strings.HasPrefix(command, "conntrack -D"):
			command += " || test $? -eq 1" // its answer when there was nothing to delete
		}
		if out, err := ns.NS.Run("bash", "-ec", command); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		ran++
	}
	if ran < 15 {
		t.Errorf("only %d commands were tried", ran)
	}
	for _, device := range []string{"flannel.1", "flannel.2", "a';rm$(x)"} {
		if out := ns.Run("ethtool", "-k", device); !strings.Contains(out, "tx-checksum-ip-generic: off") {
			t.Errorf("%s still has tx-checksum-ip-generic:\n%s", device, out)
		}
	}
	rules := ns.Run("iptables-save")
	for _, want := range []string{
		"-A OUTPUT -p udp -m udp --dport 8472 -j MARK --set-xmark 0x0/0x4000",
		"-A OUTPUT -p udp -m udp --dport 8472 -j",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no rule %s in\n%s", want, rules)
		}
	}
	if rules := ns.Run("nft", "list", "table", "ip", "vxlan_remedy"); !strings.Contains(rules, "notrack") ||
		!strings.Contains(rules, "0xffffbfff") {
		t.Errorf("nft has\n%s", rules)
	}
}

// TestCommandsTakeOddNames: a device that is named like an option, a word or an escape is still the one that ethtool(8)
// switches and tcpdump(8) opens. Neither takes "--" before the name, and neither needs it.
func TestCommandsTakeOddNames(t *testing.T) {
	ns := labtest.New(t, "odd-names")
	for i, name := range []string{
		"-x", "-h", "-K", "--", "--help", "--version", "--debug", "on", "off", "tx", "77",
		"a;id", "~", "\x1b[31m", "\xff\xfe",
	} {
		ns.Run("ip", "link", "add", "name", name, "type", "vxlan", "id", strconv.Itoa(i+1), "dstport", "8472")
		ns.Run("ip", "link", "set", "dev", name, "up")
		capture := captureSent(verdict{device: node.Device{Underlay: name}, key: portKey{node.IPv4, 8472}}).Commands[0]
		for _, command := range []string{offloadOff(name).Commands[0], strings.Replace(capture, "tcpdump", "tcpdump -d", 1)} {
			if out, err := ns.NS.Run("bash", "-ec", command); err != nil {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		}
		ns.Do(func() error {
			c := ethtool.NewClient(nil)
			defer c.Close()
			features, err := c.Features(t.Context(), ethtool.Device{Name: name})
			if f, ok := features.Get(txChecksum); !ok || f.Active {
				t.Errorf("%q still has %s: %+v", name, txChecksum, f)
			}
			return err
		})
	}
}

func allCommands() []string {
	var list []string
	for _, c := range allCases() {
		for _, f := range Judge(c.node).Findings {
			for _, r := range f.Remedies {
				for _, command := range slices.Concat(r.Commands, r.Also) {
					if !slices.Contains(list, command) {
						list = append(list, command)
					}
				}
			}
		}
	}
	return list
}
