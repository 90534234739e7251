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
	dormant map[tableKey]bool
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
	conn, err := dialNFT(ctx, open)
	if err != nil {
		return nil, err
	}
	t := &nftables{conn: conn, dormant: map[tableKey]bool{}, chains: map[chainKey]*chain{}, sets: map[setKey]*nftSet{}}
	// A subsystem that is not there is an invalid message (nfnetlink_rcv_msg).
	err = t.listTables()
	if errors.Is(err, unix.EINVAL) {
		err = errNoNFTables
	}
	if err == nil {
		err = t.listBases()
	}
	if err != nil {
		conn.close()
		return nil, err
	}
	return t, nil
}

func (t *nftables) close() { t.conn.close() }

func (t *nftables) listTables() error {
	const (
		tableName    = 1 // NFTA_TABLE_NAME
		tableFlags   = 2
		flagsDormant = 1 // NFT_TABLE_F_DORMANT: its chains are not hooked
	)
	return t.conn.dump(request{kind: msgGetTable}, func() { clear(t.dormant) }, func(family uint8, b []byte) error {
		if n := parseNested(b); n.be32(tableFlags)&flagsDormant != 0 && len(t.dormant) < maxBases {
			t.dormant[tableKey{family, n.text(tableName)}] = true
		}
		return nil
	})
}

func (t *nftables) listBases() error {
	return t.conn.dump(request{kind: msgGetChain}, func() { t.bases = nil }, func(family uint8, b []byte) error {
		c, at := parseBase(family, b)
		if c == nil || t.dormant[at.tableKey] {
			return nil
		}
		if len(t.bases) == maxBases {
			return fmt.Errorf("more than %d base chains", maxBases)
		}
		c.chain = t.chain(at)
		t.bases = append(t.bases, c)
		return nil
	})
}

// parseBase reads a chain, without its rules; nil when it is no base chain on an IP packet's way out.
func parseBase(family uint8, b []byte) (c *base, at chainKey) {
	const ( // NFTA_CHAIN_*, NFTA_HOOK_*
		chainTable, chainHandle, chainName, chainHook, chainPolicy, chainType = 1, 2, 3, 4, 5, 7
		hookNum, hookPriority                                                 = 1, 2
		policyDrop                                                            = 0 // NF_DROP
	)
	hooked := false
	for kind := range nl.Attrs(b) { // most chains are no base chains: see that before anything is kept
		hooked = hooked || kind == chainHook
	}
	if !hooked || familyName(family) == "" {
		return nil, at
	}
	n := parseNested(b)
	hook := parseNested(n[chainHook])
	number := int(hook.be32(hookNum))
	if number != hookPrerouting && number != hookForward && number != hookOutput && number != hookPostrouting {
		return nil, at
	}
	return &base{
		hook: number, priority: int32(hook.be32(hookPriority)), handle: n.be64(chainHandle), //nolint:gosec // a signed field
		nat: n.text(chainType) == "nat", drop: n.has(chainPolicy) && n.be32(chainPolicy) == policyDrop,
	}, chainKey{tableKey{family, n.text(chainTable)}, n.text(chainName)}
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
	const ruleTable, ruleChain, ruleExpressions = 1, 2, 4 // NFTA_RULE_*
	var rules []*rule
	q := request{kind: msgGetRule, family: k.family, attrs: named(named(nil, ruleTable, k.name), ruleChain, k.chain)}
	err := t.conn.dump(q, func() { rules = nil }, func(family uint8, b []byte) error {
		var table, chain, expressions []byte
		for kind, data := range nl.Attrs(b) {
			switch kind {
			case ruleTable:
				table = data
			case ruleChain:
				chain = data
			case ruleExpressions:
				expressions = data
			}
		}
		if family != k.family || nl.Text(table) != k.name || nl.Text(chain) != k.chain {
			return nil
		}
		if t.parsed++; len(rules) == maxChainRules || t.parsed > maxTableRules {
			return fmt.Errorf("table %s chain %s: %w", k.name, k.chain, errLongChain)
		}
		rules = append(rules, t.rule(k, c, expressions))
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rules, err
}

// rulesets gives the base chains of each family: none, where nothing was read. A chain of an inet table is in both.
func (t *nftables) rulesets() (ipv4, ipv6 *ruleset) {
	ipv4 = &ruleset{family: familyIPv4, backend: NFT, status: statusNone}
	ipv6 = &ruleset{family: familyIPv6, backend: NFT, status: statusNone}
	if t == nil {
		return ipv4, ipv6
	}
	for _, b := range t.bases {
		for _, set := range []*ruleset{ipv4, ipv6} {
			if b.family == "inet" || (b.family == "ip6") == (set == ipv6) {
				set.bases = append(set.bases, b)
				set.status = statusOK
			}
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
