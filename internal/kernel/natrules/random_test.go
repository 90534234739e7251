package natrules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// dice writes random rules out of the parts that real ones consist of.
type dice struct{ *rand.Rand }

func (d dice) pick(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) match() string {
	not := d.pick("", "", "! ")
	switch d.IntN(9) {
	case 0:
		return "-p udp -m udp " + not + "--dport " + d.pick("8472", "4789", "8000:9000")
	case 1:
		return "-m mark " + not + "--mark " + d.pick("0x4000/0x4000", "0x4000", "0x2000/0x2000", "0x0/0x4000", "0x0/0xffff")
	case 2:
		return not + "-s " + d.pick("{node}", "{cluster}", "{local}", "{docker}")
	case 3:
		return not + "-d " + d.pick("{node}", "{cluster}", "{docker}", "{multicast}")
	case 4:
		return not + "-o " + d.pick("eth0", "eth+", "flannel.1", "docker0")
	case 5:
		return not + "-p " + d.pick("udp", "tcp")
	case 6:
		return "-m addrtype " + not + d.pick("--src-type LOCAL", "--dst-type LOCAL", "--dst-type UNICAST")
	case 7:
		return "-m conntrack " + not + "--ctstate " + d.pick("NEW", "ESTABLISHED", "NEW,ESTABLISHED", "UNTRACKED")
	default:
		return "-m comment --comment x"
	}
}

func (d dice) matches() string {
	var words []string
	seen := map[string]bool{} // an option may be given once
	for range d.IntN(3) {
		m := d.match()
		option := strings.Fields(strings.TrimPrefix(m, "! "))[0]
		if option == "-m" {
			option = strings.Fields(m)[1]
		}
		if !seen[option] {
			seen[option] = true
			words = append(words, m)
		}
	}
	return strings.Join(words, " ")
}

func (d dice) markTarget() string {
	return d.pick("-j MARK --set-xmark 0x0/0x4000", "-j MARK --xor-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000", "-j MARK --set-mark 0", "-j MARK --or-mark 0x2000")
}

// table writes a base chain and three user chains, which jump and go to later ones only.
func (d dice) table(base string, targets func() string) string {
	chains := []string{base, "U1", "U2", "U3"}
	var s strings.Builder
	for _, c := range chains[1:] {
		fmt.Fprintf(&s, ":%s - [0:0]\n", c)
	}
	for i, c := range chains {
		for range d.IntN(4) + 1 - min(i, 1) {
			target := targets()
			if i < 3 && d.IntN(3) == 0 {
				target = d.pick("-j ", "-j ", "-g ") + chains[i+1+d.IntN(3-i)]
			}
			fmt.Fprintf(&s, "-A %s %s %s\n", c, d.matches(), target)
		}
	}
	return s.String()
}

func (d dice) tables() map[string]string {
	tables := map[string]string{"nat": d.table("POSTROUTING", func() string {
		if d.IntN(3) == 0 {
			return d.markTarget()
		}
		return d.pick("-j MASQUERADE --random-fully", "-j MASQUERADE --random", "-j MASQUERADE", "-j RETURN", "-j ACCEPT", "-j SNAT --to-source {local}", "-j SNAT --to-source {other}")
	})}
	if d.IntN(2) == 0 {
		tables[d.pick("filter", "mangle")] = d.table("OUTPUT", func() string { return d.pick(d.markTarget(), "-j ACCEPT", "-j RETURN") })
	}
	if d.IntN(4) == 0 {
		tables["raw"] = d.table("OUTPUT", func() string { return d.pick("-j NOTRACK", "-j ACCEPT", "-j RETURN") })
	}
	return tables
}

// TestRandomRules judges random rules and lets packets go through them: a judgement may be that it cannot be told, never wrong.
func TestRandomRules(t *testing.T) {
	const rounds = 40
	eachOracle(t, func(t *testing.T, o *oracle) {
		for _, backend := range []string{Legacy, NFT} {
			told, changed := 0, 0
			for seed := range uint64(rounds) {
				d := dice{rand.New(rand.NewPCG(seed, uint64(len(backend))))} //nolint:gosec // reproducible on purpose
				tables := d.tables()
				o.reset()
				o.restore(backend, tables)
				s, err := o.read()
				if err != nil {
					t.Fatal(err)
				}
				outer, live := s.Outer[0], o.live()
				if live != NoChange {
					changed++
				}
				if outer.Change == UnsureChange {
					continue
				}
				told++
				if outer.Change != live {
					t.Errorf("%s, seed %d: judged %s because of %s (%+v), on the wire %s\n%v", backend, seed, outer.Change, outer.Why, outer.Rule, live, tables)
				}
			}
			t.Logf("%s: %d of %d judged, %d changed on the wire", backend, told, rounds, changed)
			if told < rounds*2/3 || changed < rounds/8 {
				t.Errorf("%s: only %d of %d judged, %d changed on the wire", backend, told, rounds, changed)
			}
		}
	})
}
