package diagnosis

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// The effects and costs in remedies.json were measured on a live failure: the failure reproduced, the remedy applied,
// then a new connection opened and one that had stalled before watched. docs/DIAGNOSIS.md has the table.
//
//go:embed remedies.json
var remedyFile []byte

// remedyText is a remedy in remedies.json. Words in {braces} are put in when it is given.
type remedyText struct {
	Remedy
	NFT []string `json:"nft"` // its commands in nft's words
}

var remedyTexts = sync.OnceValue(func() (all map[string]remedyText) {
	_ = json.Unmarshal(remedyFile, &all) // TestRemediesAreUsed reads it
	return all
})

// remedy is the one of that name. words are pairs of a word in braces and what to put in its place, which is a shell
// word where a command has it.
func remedy(name string, words ...string) Remedy { return remedyTexts()[name].with(words) }

func (r Remedy) with(words []string) Remedy {
	put := strings.NewReplacer(words...).Replace
	all := func(list []string) (filled []string) {
		for _, s := range list {
			filled = append(filled, put(s))
		}
		return filled
	}
	r.Title, r.Effect, r.Commands, r.Also = put(r.Title), put(r.Effect), all(r.Commands), all(r.Also)
	return r
}

// remedy is the one of that name for the device and port of a verdict. Where the deciding rule was quoted in nft's
// words, so are its commands: such a node may have no iptables program.
func (j *judge) remedy(v verdict, name string, words ...string) Remedy {
	r := remedyTexts()[name]
	if rule := v.nat.rules.Rule; r.NFT != nil && rule != nil && !strings.HasPrefix(strings.TrimSpace(rule.Text), "-") {
		r.Commands = r.NFT
	}
	words = append(words, "{port}", fmt.Sprint(v.key.port), "{mark}", fmt.Sprintf("%#x", j.markOf(v.key.family)),
		"{other bits}", fmt.Sprintf("%#x", ^j.markOf(v.key.family)))
	if v.key.family == node.IPv6 {
		words = append(words, "{iptables}", "ip6tables", "{ip}", "ip6", "{conntrack -D}", "conntrack -D -f ipv6")
	} else {
		words = append(words, "{iptables}", "iptables", "{ip}", "ip", "{conntrack -D}", "conntrack -D")
	}
	return r.with(words)
}

// markOf is the masquerade mark of a family; kube-proxy's default, --iptables-masquerade-bit=14, where the rules do not
// tell.
func (j *judge) markOf(family string) uint32 {
	if mark := j.marks[family]; mark != 0 {
		return mark
	}
	return 0x4000
}

// remedies for a device that is exposed, the quickest cure first.
func (j *judge) remedies(v verdict) []Remedy {
	var r []Remedy
	if v.nat.unread {
		r = append(r, readRulesRemedy(v.nat.rules.Rule), offloadOff(v.device.Name))
		v.nat.rules.Rule = nil // it need not be the one that decides
		r = append(r, j.remedy(v, "notrack"))
	} else {
		r = append(r, offloadOff(v.device.Name))
		r = append(r, j.ruleRemedies(v)...)
	}
	switch {
	case v.variant == node.ZeroChecksum:
		r = append(r, remedy("upgrade_kernel"))
	case v.key.family == node.IPv4 && !v.device.IsExternal() &&
		j.kernels[[2]string{node.ZeroChecksum, v.key.family}].holds == no: // else it would trade variant B for variant A
		r = append(r, remedy("noudpcsum"))
	}
	return r
}

// undecidedRemedies are for a device of which not enough is known: find out, and the switch that helps in any case.
func (j *judge) undecidedRemedies(v verdict) []Remedy {
	if path := v.device.LinkNetnsPath; v.device.LinkNetns != nil && path != "" {
		return []Remedy{remedy("look_from_its_namespace", "{netns}", shellWord(path))}
	}
	if v.device.LinkNetns != nil {
		return []Remedy{remedy("find_its_namespace")}
	}
	var r []Remedy
	if v.nat.unread {
		r = append(r, readRulesRemedy(v.nat.rules.Rule))
	}
	if v.kernel.holds == unsure {
		r = append(r, remedy("selftest"))
	}
	if v.checksum.holds == unsure {
		r = append(r, captureSent(v))
	}
	if v.nat.flows {
		r = append(r, offloadOff(v.device.Name))
	}
	return r
}

func offloadOff(device string) Remedy { return remedy("offload_off", "{device}", shellWord(device)) }

// ruleRemedies stop the outer packet from being NATed. Flows that are NATed already keep their NAT until they are
// deleted.
func (j *judge) ruleRemedies(v verdict) []Remedy {
	var r []Remedy
	switch v.nat.rules.Why {
	case natrules.WhyKept:
		r = []Remedy{j.remedy(v, "upgrade_kube_proxy"), j.remedy(v, "mark_reset")}
	case natrules.WhyBypassed:
		r = []Remedy{j.moveRule(v)}
	case natrules.WhyOrder:
		r = []Remedy{j.remedy(v, "any_order", "{rule}", quoteChain(v.nat.rules.Rule))}
	case natrules.WhyRestored:
		r = []Remedy{j.remedy(v, "mask_restore", "{rule}", theRule(v, "the rule")), j.remedy(v, "mark_reset")}
	}
	return append(r, j.remedy(v, "notrack"))
}

func (j *judge) moveRule(v verdict) Remedy {
	keeps := ""
	if v.nat.rules.Change == natrules.PortChange {
		keeps = ". Without --random-fully it would keep the source port, which helps too"
	}
	return j.remedy(v, "move_rule", "{rule}", theRule(v, "the rule that NATs the tunnel's packets"), "{keeps port}", keeps)
}

func theRule(v verdict, unknown string) string {
	if v.nat.rules.Rule == nil {
		return unknown
	}
	return "the rule " + quote(v.nat.rules.Rule)
}

func readRulesRemedy(rule *natrules.Rule) Remedy {
	if rule == nil {
		return remedy("more_rights_for_rules")
	}
	return remedy("look_at_rule", "{quote}", quote(rule))
}

// captureSent looks at what really leaves. A sender's capture cannot show whether a checksum is good, for the NIC may
// still finish it, but whether the field is 0 it does.
func captureSent(v verdict) Remedy {
	filter := fmt.Sprintf("udp dst port %d and udp[6:2] != 0", v.key.port)
	if v.key.family == node.IPv6 {
		filter = fmt.Sprintf("ip6 and udp dst port %d and ip6[46:2] != 0", v.key.port)
	}
	return remedy("capture_sent", "{underlay}", shellWord(cmp.Or(v.device.Underlay, "any")), "{with checksum}", filter)
}
