package natrules

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/fuzz/bound"
	"vxlan_exporter/test/lab/labtest"
)

// memoryBlob is a table in memory, true or forged.
type memoryBlob []byte

func (m memoryBlob) at(off, n int) ([]byte, error) {
	if off < 0 || n < 0 || off+n > len(m) {
		return nil, errLegacy
	}
	return m[off : off+n], nil
}

func (memoryBlob) torn() bool { return false }
func (memoryBlob) close()     {}

func fuzzPorts() []Port {
	local := netip.MustParseAddr("192.168.77.1")
	device := Interface{Name: "flannel.1", Index: 3}
	return []Port{{
		Port: vxlanPort, IPv4: true, IPv6: true, Own: []netip.Addr{local}, Devices: []Interface{device},
		Senders: func(bool, uint32) []Sender {
			return []Sender{
				{Out: device, Sources: []netip.Prefix{netip.PrefixFrom(local, 32)}},
				{Out: device, Sources: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}, In: []Interface{{Name: "cni0", Index: 4}}},
			}
		},
		Ways: func(bool, uint32) []Way {
			return []Way{{Out: Interface{Name: "eth0", Index: 2, Addrs: []netip.Addr{local}}, Source: local, Masquerade: local}}
		},
	}}
}

// Bounds on what is allocated for an input. A walk keeps states and steps, both bounded, whatever the size of the rules.
const (
	perByte = 4 << 10
	fixed   = 64 << 20
)

// judgeAll judges rulesets that hold bases, and writes every quote. What is judged must be one of the answers that there are, for
// every packet, and what it is said to rest on must be among the rules.
func judgeAll(t testing.TB, bases []*base) {
	t.Helper()
	var sets []*ruleset
	for _, ipv6 := range []bool{false, true} {
		sets = append(sets, &ruleset{ipv6: ipv6, backend: Legacy, bases: bases, postrouting: kubePostrouting(bases)})
	}
	s := judgeRules(Input{Ports: fuzzPorts()}, sets)
	texts := map[string]bool{}
	for _, r := range allRules(bases) {
		texts[r.text] = true
	}
	if len(s.Rulesets) != 2 || len(s.Outer) != 2 {
		t.Fatalf("%d rulesets and %d outer packets of two families", len(s.Rulesets), len(s.Outer))
	}
	for _, r := range s.Rulesets {
		if !slices.Contains([]MarkState{MarkCleared, MarkKept, MarkBypassed, MarkAbsent, MarkUnknown}, r.MarkState) {
			t.Errorf("guard %q", r.MarkState)
		}
		for _, q := range r.Quotes {
			if !texts[q.Text] {
				t.Errorf("no rule reads %q", q.Text)
			}
		}
	}
	for _, o := range s.Outer {
		if !slices.Contains([]Change{NoChange, PortChange, AddrChange, UnsureChange}, o.Change) || o.Why == "" || o.Port != vxlanPort {
			t.Errorf("outer packet %+v", o)
		}
		if o.Rule != nil && !texts[o.Rule.Text] {
			t.Errorf("no rule reads %q", o.Rule.Text)
		}
	}
}

// allRules are the rules of bases and of every chain that they lead to, as far as they were read.
func allRules(bases []*base) (all []*rule) {
	seen := map[*chain]bool{}
	var add func(c *chain)
	add = func(c *chain) {
		if c == nil || seen[c] {
			return
		}
		seen[c] = true
		for _, r := range c.rules {
			all = append(all, r)
			add(r.to)
		}
	}
	for _, b := range bases {
		add(b.chain)
	}
	return all
}

// FuzzLegacy walks forged tables: struct ipt_getinfo, then entries.
func FuzzLegacy(f *testing.F) {
	for _, six := range []bool{false, true} {
		for _, rules := range []string{"", kubeOld, kubeFixed} {
			f.Add(legacySeed(f, six, rules), six)
		}
	}
	f.Add(make([]byte, 200), false)
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		if len(b) < legacyInfoLen {
			return
		}
		_, err := parseLegacyInfo(b[:legacyInfoLen], six)
		if err != nil {
			return
		}
		var bases []*base
		var name string
		bound.Read(t, len(b), perByte, fixed, func() {
			table, _ := parseLegacyInfo(b[:legacyInfoLen], six)
			table.blob, bases, name = memoryBlob(b[legacyInfoLen:]), nil, table.name
			for _, hook := range []int{hookOutput, hookPostrouting} {
				if base, err := table.base(hook); err == nil {
					bases = append(bases, base)
				}
			}
			judgeAll(t, bases)
		})
		for _, r := range allRules(bases) {
			if r.chain.table != name {
				t.Errorf("a rule of table %q in %q", r.chain.table, name)
			}
		}
	})
}

// legacySeed is a real table.
func legacySeed(t testing.TB, six bool, rules string) []byte {
	ns := labtest.New(t, "seed")
	program := "iptables-legacy-restore"
	if six {
		program = "ip6tables-legacy-restore"
	}
	ns.RunInput("*nat\n"+rules+"COMMIT\n", program)
	var seed []byte
	ns.Do(func() error {
		table, err := openLegacy(openLegacySocket, "nat", six)
		if err != nil {
			return err
		}
		defer table.close()
		b := make([]byte, legacyInfoLen)
		copy(b, table.name)
		put := func(off int, n uint32) { binary.NativeEndian.PutUint32(b[off:], n) }
		put(32, table.validHooks)
		for h := range table.hookEntry {
			put(36+4*h, table.hookEntry[h])
			put(56+4*h, table.underflow[h])
		}
		put(80, uint32(table.size))
		entries, err := table.blob.at(0, table.size)
		seed = slices.Concat(b, entries)
		return err
	})
	return seed
}

// FuzzNFT parses forged rules, chains and sets: every way in which bytes of nf_tables come in.
func FuzzNFT(f *testing.F) {
	for _, seed := range nftSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bound.Read(t, len(b), perByte, fixed, func() { judgeNFT(t, b) })
	})
}

// judgeNFT takes b for the expressions of a rule, for a chain and for an element of a set.
func judgeNFT(t *testing.T, b []byte) {
	// Sets that the rule names are not there.
	none := &nfConn{ctx: t.Context(), open: func() (nl.Socket, error) { return nil, unix.ENOENT }}
	tables := &nftables{conn: none, chains: map[chainKey]*chain{}, sets: map[setKey]*nftSet{}}
	for _, family := range []uint8{nfInet, nfIPv4, nfIPv6} {
		parseBase(family, b)
		k := chainKey{tableKey{family, "t"}, "c"}
		post := &base{chain: tables.chain(k), hook: hookPostrouting, priority: prioNATSrc, nat: true}
		out := &base{chain: post.chain, hook: hookOutput, priority: -300}
		set := &nftSet{interval: len(b)%2 == 0, elements: []setElement{parseElement(b)}}
		set.prepare()
		tables.sets[setKey{k.tableKey, "__set0"}] = set
		rules := []*rule{tables.rule(k, post.chain, b)}
		post.rules, post.loaded = rules, true
		for _, c := range tables.chains {
			if !c.loaded {
				c.loaded, c.rules = true, rules
			}
		}
		judgeAll(t, []*base{out, post})
	}
}

// nftSeeds are the expressions of real rules, native and of iptables-nft.
func nftSeeds(t testing.TB) [][]byte {
	ns := labtest.New(t, "seed")
	ns.RunInput("*nat\n"+kubeFixed+kubeOldRule+"COMMIT\n*filter\n-A OUTPUT -p udp -m multiport --dports 1,8472 -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n", "iptables-nft-restore")
	ns.RunInput(`table inet x {
	chain o {
		type filter hook output priority -300
		udp dport { 1, 8472 } notrack
		udp dport 8000-9000 meta mark set mark or 1
		udp dport vmap { 1 : accept, 8472 : return }
		ct state new ct mark 1 counter limit rate 1/second log accept
		ip saddr 10.0.0.0/8 fib saddr type local reject
	}
	chain p {
		type nat hook postrouting priority 100
		ip daddr { 10.0.0.0/8, 192.168.0.0/16 } udp dport 8472 masquerade to :1-2 random
		oifname "e*" udp dport 8472 snat ip to 1.2.3.4-1.2.3.5:6-7 persistent
		meta mark & 1 == 1 goto q
	}
	chain q { numgen random mod 2 == 1 masquerade; }
}
`, "nft", "-f", "-")
	var seeds [][]byte
	ns.Do(func() error {
		var err error
		conn := newNFT(context.Background(), nl.Netfilter)
		defer conn.close()
		for _, kind := range []uint16{unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETCHAIN} {
			err = errors.Join(err, conn.dump(request{kind: kind, family: unix.AF_UNSPEC}, func() {}, func(_ uint8, b []byte) error {
				seeds = append(seeds, bytes.Clone(b))
				if expressions := parseNested(b)[4]; expressions != nil {
					seeds = append(seeds, bytes.Clone(expressions))
				}
				return nil
			}))
		}
		return err
	})
	return seeds
}

const kubeOldRule = "-A POSTROUTING -p udp -m mark --mark 0x4000/0x4000 -j SNAT --to-source 1.2.3.4:5-6 --random\n"

// TestForged walks tables whose offsets lie, and rules that loop.
func TestForged(t *testing.T) {
	seed := legacySeed(t, false, kubeFixed)
	for off := legacyInfoLen; off+4 <= len(seed); off += 2 {
		for _, lie := range []uint16{0, 1, 0xffff, 0x7fff, uint16(off)} {
			b := bytes.Clone(seed)
			binary.NativeEndian.PutUint16(b[off:], lie)
			table, err := parseLegacyInfo(b[:legacyInfoLen], false)
			if err != nil {
				t.Fatal(err)
			}
			table.blob = memoryBlob(b[legacyInfoLen:])
			base, err := table.base(hookPostrouting)
			if err != nil {
				continue // refused: as good
			}
			judgeAll(t, []*baseChain{base})
		}
	}
}

type baseChain = base

// TestLoops: the kernel refuses rules that loop, but a reader must not hang on what it is told.
func TestLoops(t *testing.T) {
	jump := func(kind verdictKind, to *chain) step {
		return func(*machine) effect { return ends(verdict{kind: kind, chain: to}) }
	}
	maybeFlip := func(m *machine) effect {
		m.state.mark = m.state.mark.assign(m.state.mark.bits+1, ^uint32(0))
		return matched(maybe)
	}
	for _, kind := range []verdictKind{verdictJump, verdictGoto} {
		a, b := &chain{name: "a", loaded: true}, &chain{name: "b", loaded: true}
		text := "-A a"
		a.rules = []*rule{{chain: a, steps: []step{jump(kind, b)}, text: text}}
		b.rules = []*rule{{chain: b, steps: []step{jump(kind, a)}, text: text}}
		bases := []*base{{chain: a, hook: hookPostrouting, nat: true}}
		s := judgeRules(Input{Ports: fuzzPorts()[:1]}, []*ruleset{{backend: Legacy, bases: bases}})
		if o := s.Outer[0]; o.Change != UnsureChange || o.Rule == nil {
			t.Errorf("loop: %+v", o)
		}
		// Chains that double the work and the states at every step.
		var last *chain
		for range 40 {
			c := &chain{name: "c", loaded: true}
			for range 4 {
				c.rules = append(c.rules, &rule{chain: c, steps: []step{maybeFlip}, text: text})
				if last != nil {
					c.rules = append(c.rules, &rule{chain: c, steps: []step{jump(kind, last)}, text: text})
				}
			}
			last = c
		}
		bases = []*base{{chain: last, hook: hookPostrouting, nat: true}}
		s = judgeRules(Input{Ports: fuzzPorts()[:1]}, []*ruleset{{backend: Legacy, bases: bases}})
		if o := s.Outer[0]; o.Change != UnsureChange && kind == verdictJump { // a goto leaves the chain: 40 flips are not too many
			t.Errorf("explosion: %+v", o)
		}
	}
}
