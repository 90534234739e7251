package natrules

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// Families of nf_tables tables that see IPv4 or IPv6 packets (include/uapi/linux/netfilter.h).
const (
	nfInet = 1  // NFPROTO_INET
	nfIPv4 = 2  // NFPROTO_IPV4
	nfIPv6 = 10 // NFPROTO_IPV6
)

// Bounds of what is read. A node has a few dozen base chains; every other chain is skipped as it comes.
const (
	maxBases       = 512
	maxExpressions = 128
)

// nftables is what is read of nf_tables in one go: base chains at once, rules and sets when a walk comes to them.
type nftables struct {
	conn    *nfConn
	bases   []*base
	chains  map[chainKey]*chain
	sets    map[setKey]*nftSet
	lookups lookups
	parsed  int // rules
}

type tableKey struct {
	family uint8
	name   string
}

type chainKey struct {
	tableKey
	chain string
}

type setKey struct {
	tableKey
	set string
}

// errNoNFTables: this kernel has no nf_tables.
var errNoNFTables = errors.New("nftables: not in this kernel")

// openNFT lists the base chains.
func openNFT(ctx context.Context, open nl.Opener) (*nftables, error) {
	t := &nftables{conn: newNFT(ctx, open), chains: map[chainKey]*chain{}, sets: map[setKey]*nftSet{}}
	dormant := map[tableKey]bool{}
	const flagDormant = 1 // NFT_TABLE_F_DORMANT: its chains are not hooked
	q := request{kind: unix.NFT_MSG_GETTABLE}
	err := t.conn.dump(q, func() { clear(dormant) }, func(family uint8, b []byte) error {
		n := parseNested(b)
		if n.be32(unix.NFTA_TABLE_FLAGS)&flagDormant != 0 && len(dormant) < maxBases {
			dormant[tableKey{family, n.text(unix.NFTA_TABLE_NAME)}] = true
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) { // a subsystem that is not there is an invalid message (nfnetlink_rcv_msg)
		err = errNoNFTables
	}
	if err == nil {
		q.kind = unix.NFT_MSG_GETCHAIN
		err = t.conn.dump(q, func() { t.bases = nil }, func(family uint8, b []byte) error {
			c, at := parseBase(family, b)
			switch {
			case c == nil || dormant[at.tableKey]:
				return nil
			case len(t.bases) == maxBases:
				return fmt.Errorf("more than %d base chains", maxBases)
			}
			c.chain = t.chain(at)
			t.bases = append(t.bases, c)
			return nil
		})
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *nftables) close() { t.conn.close() }

// parseBase reads a chain, without its rules; nil when it is no base chain on an IP packet's way out.
func parseBase(family uint8, b []byte) (c *base, at chainKey) {
	const policyDrop = 0 // NF_DROP
	hooked := false
	for kind := range nl.Attrs(b) { // most chains are no base chains: see that before anything is kept
		hooked = hooked || kind == unix.NFTA_CHAIN_HOOK
	}
	if !hooked || familyName(family) == "" {
		return nil, at
	}
	n := parseNested(b)
	hook := parseNested(n[unix.NFTA_CHAIN_HOOK])
	number := int(hook.be32(unix.NFTA_HOOK_HOOKNUM))
	if !slices.Contains(outgoing, number) && !slices.Contains(forwarded, number) {
		return nil, at
	}
	return &base{
		hook: number, priority: int32(hook.be32(unix.NFTA_HOOK_PRIORITY)), //nolint:gosec // a signed field
		handle: n.be64(unix.NFTA_CHAIN_HANDLE), nat: n.text(unix.NFTA_CHAIN_TYPE) == "nat",
		drop: n.has(unix.NFTA_CHAIN_POLICY) && n.be32(unix.NFTA_CHAIN_POLICY) == policyDrop,
	}, chainKey{tableKey{family, n.text(unix.NFTA_CHAIN_TABLE)}, n.text(unix.NFTA_CHAIN_NAME)}
}

// familyName is that of tables that see IP packets; "" for others.
func familyName(family uint8) string {
	return map[uint8]string{nfInet: "inet", nfIPv4: "ip", nfIPv6: "ip6"}[family]
}

// chain is the one chain of that name, whoever jumps to it.
func (t *nftables) chain(k chainKey) *chain {
	if c := t.chains[k]; c != nil {
		return c
	}
	c := &chain{backend: NFT, family: familyName(k.family), table: k.name, name: k.chain}
	c.load = func() ([]*rule, error) { return t.rules(k, c) }
	t.chains[k] = c
	return c
}

// rules dumps one chain. Old kernels ignore the names in the request and send every rule: those of other chains are
// skipped.
func (t *nftables) rules(k chainKey, c *chain) ([]*rule, error) {
	var rules []*rule
	q := request{kind: unix.NFT_MSG_GETRULE, family: k.family}
	q.attrs = named(named(nil, unix.NFTA_RULE_TABLE, k.name), unix.NFTA_RULE_CHAIN, k.chain)
	err := t.conn.dump(q, func() { rules = nil }, func(family uint8, b []byte) error {
		var of [unix.NFTA_RULE_EXPRESSIONS + 1][]byte // without a map: there can be 200,000
		for kind, data := range nl.Attrs(b) {
			if int(kind) < len(of) {
				of[kind] = data
			}
		}
		table, chain := of[unix.NFTA_RULE_TABLE], of[unix.NFTA_RULE_CHAIN]
		if family != k.family || nl.Text(table) != k.name || nl.Text(chain) != k.chain {
			return nil
		}
		if t.parsed++; len(rules) == maxChainRules || t.parsed > maxTableRules {
			return fmt.Errorf("table %s chain %s: %w", k.name, k.chain, errLongChain)
		}
		rules = append(rules, t.rule(k, c, of[unix.NFTA_RULE_EXPRESSIONS]))
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rules, err
}

// rulesets gives the base chains of each family: none, where nothing was read. A chain of an inet table is in both.
func (t *nftables) rulesets() (ipv4, ipv6 *ruleset) {
	ipv4, ipv6 = &ruleset{backend: NFT}, &ruleset{backend: NFT, ipv6: true}
	if t == nil {
		return ipv4, ipv6
	}
	for _, b := range t.bases {
		if b.family != "ip6" {
			ipv4.bases = append(ipv4.bases, b)
		}
		if b.family != "ip" {
			ipv6.bases = append(ipv6.bases, b)
		}
	}
	return ipv4, ipv6
}

// kubePostrouting finds the chain in which kube-proxy masquerades.
func kubePostrouting(bases []*base) *chain {
	seen := map[*chain]bool{}
	var find func(c *chain, depth int) *chain
	find = func(c *chain, depth int) *chain {
		if c == nil || seen[c] || depth > 4 || serviceChain(c) && depth > 0 {
			return nil
		}
		seen[c] = true
		if c.name == "KUBE-POSTROUTING" || c.table == "kube-proxy" && c.name == "masquerading" {
			return c
		}
		if c.read() != nil {
			return nil
		}
		for _, r := range c.rules {
			if found := find(r.to, depth+1); found != nil {
				return found
			}
		}
		return nil
	}
	for _, b := range slices.Backward(bases) {
		if b.hook == hookPostrouting && b.nat {
			if c := find(b.chain, 0); c != nil {
				return c
			}
		}
	}
	return nil
}
