package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// applySenderRules makes node A's rules what the options say, in both families: the mark is set by rules for the inner
// IPv4 packet, the outer one meets those of the underlay's family.
func (r *Rig) applySenderRules() error {
	return errors.Join(
		r.applySets(),
		r.restore(r.A, IPv4, map[string]string{
			"nat": r.natRules(IPv4), "raw": r.rawRules(), "filter": r.resetRules(MarkResetFilter),
			"mangle": r.resetRules(MarkResetMangle),
		}),
		r.restore(r.A, IPv6, map[string]string{
			"nat": r.natRules(IPv6), "raw": r.rawRules(), "filter": r.resetRules(MarkResetFilter),
			"mangle": r.resetRules(MarkResetMangle),
		}),
		r.applyNFTables(),
	)
}

// applyReceiverRules gives node B's conntrack something to do. A rule that asks for its state is what registers its
// hooks.
func (r *Rig) applyReceiverRules() error {
	var filter string
	switch r.opts.Receiver {
	case ReceiverNone:
	case ReceiverTrack:
		// kube-proxy's own (pkg/proxy/iptables, KUBE-FORWARD).
		filter = `:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" ` +
			`-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
`
	case ReceiverFirewalld:
		filter = "-A INPUT -m conntrack --ctstate INVALID -j DROP\n"
	}
	return errors.Join(
		r.restore(r.B, IPv4, map[string]string{"filter": filter}),
		r.restore(r.B, IPv6, map[string]string{"filter": filter}),
	)
}

// restore replaces whole tables in one iptables-restore. A table that never had a rule is left out: naming it would
// create it.
func (r *Rig) restore(n *NS, f Family, tables map[string]string) error {
	var input strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} { // one order, for reproducible errors
		key := n.Name + " " + string(f) + " " + table
		if tables[table] == "" && !r.tables[key] {
			continue
		}
		r.tables[key] = true
		fmt.Fprintf(&input, "*%s\n%sCOMMIT\n", table, tables[table])
	}
	if input.Len() == 0 {
		return nil
	}
	program := "iptables"
	if f == IPv6 {
		program = "ip6tables"
	}
	_, err := n.Configure(input.String(), program+"-"+string(r.opts.Backend)+"-restore", "-w")
	return err
}

// natRules is table nat of node A as iptables-restore takes it.
func (r *Rig) natRules(f Family) string {
	if r.opts.Rules.nftables() {
		return ""
	}
	rules := r.postroutingRules(f)
	if f == IPv4 {
		rules += r.serviceRules()
	}
	return rules
}

// postroutingRules are what the outer packet meets.
func (r *Rig) postroutingRules(f Family) string {
	mark := fmt.Sprintf("%#x", r.opts.mark())
	cluster := map[Family]string{IPv4: clusterCIDR, IPv6: clusterCIDR6}[f]
	random := ""
	if r.opts.RandomFully {
		random = " --random-fully"
	}
	v := strings.NewReplacer("{mark}", mark, "{random}", random, "{cluster}", cluster, "{pods}", podsA)

	const kube = `:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
`
	const clearing = `-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark {mark}
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{random}
`
	const fixed = kube + clearing
	if f == IPv6 && slices.Contains([]Rules{RulesFlannel, RulesFlannelKube, RulesDocker}, r.opts.Rules) {
		return v.Replace(fixed) // neither has rules for a family its networks do not have
	}
	switch r.opts.Rules {
	case RulesOld:
		return v.Replace(kube + `-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" ` +
			`-m mark --mark {mark}/{mark} -j MASQUERADE{random}
`)
	case RulesFixed:
		return v.Replace(fixed)
	case RulesIPVS:
		return v.Replace(kube + `-A KUBE-POSTROUTING -m comment ` +
			`--comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set ` +
			loopBackSet(f) + ` dst,dst,src -j MASQUERADE
` + clearing)
	case RulesBypassed:
		return v.Replace(`-A POSTROUTING ! -d {cluster} -m comment --comment "masquerade what leaves the cluster" ` +
			`-j MASQUERADE{random}
` + fixed)
	case RulesFlannel, RulesFlannelKube:
		leaveKube := ""
		if r.opts.Rules == RulesFlannelKube {
			leaveKube = `-A FLANNEL-POSTRTG -m mark --mark {mark}/{mark} -m comment --comment "flanneld masq" -j RETURN
`
		}
		return v.Replace(`:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
` + leaveKube + `-A FLANNEL-POSTRTG -s {pods} -d {cluster} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {pods} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {pods} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE{random}
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} -m comment --comment "flanneld masq" -j MASQUERADE{random}
` + fixed)
	case RulesDocker:
		return v.Replace("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n" + fixed)
	default:
		return ""
	}
}

// serviceRules lead a NodePort to the pod, as kube-proxy's iptables mode does.
func (r *Rig) serviceRules() string {
	v := strings.NewReplacer("{mark}", fmt.Sprintf("%#x", r.opts.mark()), "{nodeport}", fmt.Sprint(NodePort),
		"{endpoint}", fmt.Sprintf("%s:%d", podIP, PodPort), "{pod}", podIP)
	var rules strings.Builder
	rules.WriteString(v.Replace(`:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" ` +
		`-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-MARK-MASQ -j MARK --or-mark {mark}
`))
	for protocol, name := range map[string]string{"tcp": "default/web", "udp": "default/dns"} {
		p := strings.NewReplacer("{proto}", protocol, "{name}", name, "{PROTO}", strings.ToUpper(protocol))
		rules.WriteString(p.Replace(v.Replace(`:KUBE-SVC-{PROTO} - [0:0]
:KUBE-SEP-{PROTO} - [0:0]
-A KUBE-NODEPORTS -p {proto} -m comment --comment {name} -m {proto} --dport {nodeport} -j KUBE-MARK-MASQ
-A KUBE-NODEPORTS -p {proto} -m comment --comment {name} -m {proto} --dport {nodeport} -j KUBE-SVC-{PROTO}
-A KUBE-SVC-{PROTO} -m comment --comment {name} -j KUBE-SEP-{PROTO}
-A KUBE-SEP-{PROTO} -s {pod}/32 -m comment --comment {name} -j KUBE-MARK-MASQ
-A KUBE-SEP-{PROTO} -p {proto} -m comment --comment {name} -m {proto} -j DNAT --to-destination {endpoint}
`)))
	}
	return rules.String()
}

func (r *Rig) rawRules() string {
	if !r.opts.Notrack {
		return ""
	}
	// Calico's own since 3.29 (felix, cali-OUTPUT and cali-PREROUTING).
	return fmt.Sprintf("-A PREROUTING -p udp -m udp --dport %[1]d -j NOTRACK\n-A OUTPUT -p udp -m udp --dport %[1]d -j "+
		"NOTRACK\n", r.opts.Port)
}

func (r *Rig) resetRules(table MarkReset) string {
	if r.opts.MarkReset != table {
		return ""
	}
	return fmt.Sprintf("-A OUTPUT -p udp -m udp --dport %d -j MARK --set-xmark 0x0/%#x\n", r.opts.Port, r.opts.mark())
}
