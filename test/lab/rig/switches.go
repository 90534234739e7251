package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/test/lab"
)

// switches are the flags that set a rig's options.
type switches struct {
	o     lab.Options
	given map[string]*bool // by flag name
}

// addLiveSwitches declares the switches that a standing rig can change. The defaults show the live failure.
func addLiveSwitches(cmd *kingpin.CmdClause) *switches {
	s := &switches{o: lab.LiveFailure(), given: map[string]*bool{}}
	o := &s.o
	choice(s, cmd, "rules", "NAT rules of the sender", &o.Rules, lab.AllRules()...)
	s.flag(cmd, "random-fully", "MASQUERADE --random-fully.", &o.RandomFully)
	s.flag(cmd, "udp-checksum", "Outer UDP checksum of the sender's VXLAN device.", &o.UDPChecksum)
	s.flag(cmd, "tx-checksum", "tx-checksum-ip-generic of the sender's VXLAN device.", &o.TxChecksum)
	s.flag(cmd, "notrack", "NOTRACK for the VXLAN port on the sender.", &o.Notrack)
	choice(s, cmd, "mark-reset", "Table in whose OUTPUT the mark is cleared for the VXLAN port", &o.MarkReset,
		lab.MarkResetNone, lab.MarkResetFilter, lab.MarkResetMangle)
	choice(s, cmd, "receiver", "Connection tracking of the receiver", &o.Receiver,
		lab.ReceiverNone, lab.ReceiverTrack, lab.ReceiverFirewalld)
	return s
}

// addSwitches declares all switches of a new rig.
func addSwitches(cmd *kingpin.CmdClause) *switches {
	s := addLiveSwitches(cmd)
	o := &s.o
	choice(s, cmd, "backend", "iptables programs to use", &o.Backend, lab.Legacy, lab.NFT)
	choice(s, cmd, "family", "Address family of the underlay", &o.Family, lab.IPv4, lab.IPv6)
	cmd.Flag("port", "VXLAN port.").Default("8472").Uint16Var(&o.Port)
	cmd.Flag("mark-bit", "Bit of the masquerade mark, 1 to 31.").Default("14").UintVar(&o.MarkBit)
	cmd.Flag("udp-timeout", "nf_conntrack_udp_timeout of the sender in seconds; 0 leaves the kernel's 30, and a stall of 63 s.").
		Default("3").IntVar(&o.UDPTimeout)
	s.flag(cmd, "tx-rehash", "Let the sender's kernel leave the failing path after the first SYN timeout (net.core.txrehash).", &o.TxRehash)
	s.flag(cmd, "imitate-a", "Imitate a kernel that writes 0xffff over a checksum of 0; goes with --no-udp-checksum.", &o.ImitateA)
	return s
}

func (s *switches) flag(cmd *kingpin.CmdClause, name, help string, v *bool) {
	text := "false"
	if *v {
		text = "true"
	}
	s.given[name] = new(bool)
	cmd.Flag(name, help).Default(text).IsSetByUser(s.given[name]).BoolVar(v)
}

func choice[T ~string](s *switches, cmd *kingpin.CmdClause, name, help string, v *T, allowed ...T) {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	s.given[name] = new(bool)
	// The option's own type is a string, and kingpin sets strings only.
	cmd.Flag(name, help+": "+strings.Join(names, ", ")+".").Default(string(*v)).IsSetByUser(s.given[name]).
		SetValue(&enum[T]{name, v, names})
}

// enum is a flag with a few allowed values.
type enum[T ~string] struct {
	flag    string
	v       *T
	allowed []string
}

func (e *enum[T]) String() string { return string(*e.v) }

func (e *enum[T]) Set(text string) error {
	if !slices.Contains(e.allowed, text) {
		return fmt.Errorf("--%s=%q: must be one of %s", e.flag, text, strings.Join(e.allowed, ", "))
	}
	*e.v = T(text)
	return nil
}

// apply changes what was given on the command line, and nothing else.
func (s *switches) apply(r *lab.Rig) error {
	now := r.Options()
	if *s.given["rules"] {
		now.Rules = s.o.Rules
	}
	if *s.given["random-fully"] {
		now.RandomFully = s.o.RandomFully
	}
	changed := false
	for _, c := range []struct {
		given []string
		set   func() error
	}{
		{[]string{"rules", "random-fully"}, func() error { return r.SetRules(now.Rules, now.RandomFully) }},
		{[]string{"udp-checksum"}, func() error { return r.SetUDPChecksum(s.o.UDPChecksum) }},
		{[]string{"tx-checksum"}, func() error { return r.SetTxChecksum(s.o.TxChecksum) }},
		{[]string{"notrack"}, func() error { return r.SetNotrack(s.o.Notrack) }},
		{[]string{"mark-reset"}, func() error { return r.SetMarkReset(s.o.MarkReset) }},
		{[]string{"receiver"}, func() error { return r.SetReceiver(s.o.Receiver) }},
	} {
		wanted := false
		for _, name := range c.given {
			wanted = wanted || *s.given[name]
		}
		if !wanted {
			continue
		}
		if err := c.set(); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return errors.New("set: no switch given (try --help)")
	}
	return nil
}
