package natrules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// dice writes random rules out of the parts that real ones consist of.
type dice struct {
	*rand.Rand
	inner bool // the rules of POSTROUTING are about some senders' inner packets
}

func (d dice) pick(words ...string) string { return words[d.IntN(len(words))] }

// match is a match that rules of a chain can have.
func (d dice) match(chain string) string {
	not := d.pick("", "", "! ")
	switch d.IntN(9) {
	case 0:
		return "-p udp -m udp " + not + "--dport " + d.pick("8472", "4789", "8000:9000")
	case 1:
		return "-m mark " + not + "--mark " + d.pick("0x4000/0x4000", "0x4000", "0x2000/0x2000", "0x0/0x4000", "0x0/0xffff")
	case 2:
		return not + "-s " + d.pick("{node}", "{cluster}", "{local}", "{docker}", "{pods}")
	case 3:
		return not + "-d " + d.pick("{node}", "{cluster}", "{docker}", "{multicast}")
	case 4:
		if chain == "PREROUTING" {
			return not + "-i " + d.pick("cni0", "cni+", "eth0")
		}
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

func (d dice) matches(chain string) string {
	var words []string
	seen := map[string]bool{} // an option may be given once
	if d.inner && chain == "POSTROUTING" {
		words, seen["-s"] = append(words, d.pick("-s {pods}", "! -s {node}", "-o flannel.1 -s {local}")), true
		seen["-o"] = true
	}
	for range d.IntN(3) {
		m := d.match(chain)
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
			fmt.Fprintf(&s, "-A %s %s %s\n", c, d.matches(base), target)
		}
	}
	return s.String()
}

func (d dice) tables() map[string]string {
	d.inner = d.IntN(3) > 0
	tables := map[string]string{"nat": d.table("POSTROUTING", func() string {
		if d.IntN(3) == 0 {
			return d.markTarget()
		}
		return d.pick("-j MASQUERADE --random-fully", "-j MASQUERADE --random", "-j MASQUERADE", "-j RETURN", "-j ACCEPT", "-j SNAT --to-source {local}", "-j SNAT --to-source {other}")
	})}
	if d.inner { // what takes packets past this is what they differ in
		tables["nat"] += kubeFixed
	}
	if d.IntN(2) == 0 {
		table, base := "filter", d.pick("OUTPUT", "FORWARD")
		if d.IntN(2) == 0 {
			table, base = "mangle", d.pick("OUTPUT", "OUTPUT", "PREROUTING", "FORWARD", "POSTROUTING")
		}
		tables[table] = d.table(base, func() string { return d.pick(d.markTarget(), "-j ACCEPT", "-j RETURN") })
	}
	if d.IntN(4) == 0 {
		tables["raw"] = d.table(d.pick("OUTPUT", "OUTPUT", "PREROUTING"), func() string { return d.pick("-j NOTRACK", "-j ACCEPT", "-j RETURN") })
	}
	return tables
}

// TestRandomRules judges random rules and lets packets of the node and of a pod go through them: a judgment may be that it cannot be told,
// never wrong.
func TestRandomRules(t *testing.T) {
	const rounds = 40
	eachOracle(t, func(t *testing.T, o *oracle) {
		o.addPod()
		for _, backend := range []string{Legacy, NFT} {
			told, changed, differ := map[string]int{}, map[string]int{}, 0
			for seed := range uint64(rounds) {
				d := dice{Rand: rand.New(rand.NewPCG(seed, uint64(len(backend))))} //nolint:gosec // reproducible on purpose
				tables := d.tables()
				o.reset()
				o.restore(backend, tables)
				s, err := o.read()
				if err != nil {
					t.Fatal(err)
				}
				holds := func(what string, judged Change, r *Rule, live Change) {
					if live != NoChange {
						changed[what]++
					}
					if judged == UnsureChange {
						return
					}
					if told[what]++; judged != live {
						t.Errorf("%s, seed %d, %s: judged %s because of %+v, on the wire %s\n%v", backend, seed, what, judged, r, live, tables)
					}
				}
				outer, node, pod := s.Outer[0], o.liveOf(o.node), o.liveOf(o.pod)
				holds("all", outer.Change, outer.Rule, worseOf(node, pod))
				if node != pod {
					differ++
				}
				for _, f := range outer.Senders {
					if strings.HasPrefix(f.Sender, "pods") {
						holds("pods", f.Change, f.Rule, pod)
					} else {
						holds("the node", f.Change, f.Rule, node)
					}
				}
			}
			t.Logf("%s: of %d, judged %v, changed on the wire %v; node and pod differ in %d", backend, rounds, told, changed, differ)
			for _, what := range []string{"all", "the node", "pods"} {
				if told[what] < rounds*2/3 || changed[what] < rounds/8 || differ < 3 {
					t.Errorf("%s, %s: only %d of %d judged, %d changed on the wire, node and pod differ in %d", backend, what, told[what], rounds, changed[what], differ)
				}
			}
		}
	})
}
