package natrules

import (
	"bytes"
	"fmt"
	"slices"

	"vxlan_exporter/internal/kernel/nl"
)

const maxElements = 4096

// nftSet is a named or anonymous set or map, read when a walk first asks it.
type nftSet struct {
	key      setKey
	elements []setElement
	fields   []int // lengths of the fields of a concatenation
	interval bool
	err      error
	loaded   bool
	all      ranges // the union of the elements, of keys of so many bytes; nil until it is asked for
	size     int
}

// setElement is one element: key to keyEnd, or key alone.
type setElement struct {
	key, keyEnd []byte
	end         bool   // marks where an interval ends, itself not in it
	catchAll    bool   // matches what nothing else does
	data        []byte // NFTA_SET_ELEM_DATA of a map
}

// set is the one set of that name in the rule's table.
func (t *nftables) set(k setKey) *nftSet {
	s := t.sets[k]
	if s == nil {
		s = &nftSet{key: k}
		t.sets[k] = s
	}
	return s
}

func (t *nftables) loadSet(s *nftSet) error {
	if s.loaded {
		return s.err
	}
	s.loaded = true
	s.err = t.readSet(s)
	return s.err
}

func (t *nftables) readSet(s *nftSet) error {
	const ( // NFTA_SET_*, NFTA_SET_ELEM_LIST_*
		setTable, setName, setFlags, setDesc = 1, 2, 3, 9
		listTable, listSet, listElements     = 1, 2, 3
		flagInterval                         = 4
	)
	q := request{kind: msgGetSet, family: s.key.family}
	q.attrs = named(named(nil, setTable, s.key.name), setName, s.key.set)
	n, err := t.conn.get(q)
	if err != nil {
		return err
	}
	s.interval = n.be32(setFlags)&flagInterval != 0
	for _, field := range nl.Attrs(parseNested(n[setDesc])[2]) { // NFTA_SET_DESC_CONCAT, of NFTA_SET_FIELD_LEN
		s.fields = append(s.fields, int(parseNested(field).be32(1)))
	}
	q = request{kind: msgGetSetElem, family: s.key.family}
	q.attrs = named(named(nil, listTable, s.key.name), listSet, s.key.set)
	err = t.conn.dump(q, func() { s.elements = nil }, func(_ uint8, b []byte) error {
		for _, element := range nl.Attrs(parseNested(b)[listElements]) {
			if len(s.elements) == maxElements {
				return fmt.Errorf("set %s: more than %d elements", s.key.set, maxElements)
			}
			s.elements = append(s.elements, parseElement(element))
		}
		return nil
	})
	if s.interval && len(s.fields) < 2 {
		s.pair()
	}
	return err
}

func parseElement(b []byte) setElement {
	const elemKey, elemData, elemFlags, elemKeyEnd = 1, 2, 3, 10 // NFTA_SET_ELEM_*
	n := parseNested(b)
	flags := n.be32(elemFlags)
	return setElement{
		key: bytes.Clone(n.value(elemKey)), keyEnd: bytes.Clone(n.value(elemKeyEnd)), data: bytes.Clone(n[elemData]),
		end: flags&1 != 0, catchAll: flags&2 != 0, // NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL
	}
}

// pair turns the borders of intervals, which the kernel lists one by one, into intervals.
func (s *nftSet) pair() {
	borders := slices.Clone(s.elements)
	slices.SortStableFunc(borders, func(a, b setElement) int { return bytes.Compare(a.key, b.key) })
	s.elements = s.elements[:0]
	for i, b := range borders {
		if b.end {
			continue
		}
		if b.keyEnd == nil && !b.catchAll {
			b.keyEnd = bytes.Repeat([]byte{0xff}, len(b.key))
			for _, after := range borders[i+1:] {
				if !bytes.Equal(after.key, b.key) {
					b.keyEnd = before(after.key)
					break
				}
			}
		}
		s.elements = append(s.elements, b)
	}
}

// before is the value one below b.
func before(b []byte) []byte {
	c := bytes.Clone(b)
	for i := len(c) - 1; i >= 0; i-- {
		c[i]--
		if c[i] != 0xff {
			break
		}
	}
	return c
}

// match compares an element with what is in the registers from register on.
func (s *nftSet) match(m *machine, register uint32, e *setElement) truth {
	end := e.keyEnd
	if len(end) != len(e.key) {
		end = e.key
	}
	if len(s.fields) < 2 {
		return m.inRange(m.read(register), e.key, end)
	}
	t, at := yes, 0
	start, ok := registerAt(register)
	for _, n := range s.fields { // each field starts a register of its own
		if !ok || n <= 0 || at+n > len(e.key) {
			return maybe
		}
		t = t.and(m.inRange(m.readAt(start+at/4), e.key[at:at+n], end[at:at+n]))
		at += (n + 3) &^ 3
	}
	return t
}

// union is all elements of a set that has no concatenations, in network order; ok is false where they are not all of
// one size.
func (s *nftSet) union(size int) (r ranges, ok bool) {
	if s.all == nil {
		spans := make([]span, 0, len(s.elements))
		for i := range s.elements {
			e := &s.elements[i]
			if e.catchAll || len(e.key) != size || len(s.fields) > 1 {
				return nil, false
			}
			end := e.keyEnd
			if len(end) != len(e.key) {
				end = e.key
			}
			spans = append(spans, span{numberOf(e.key), numberOf(end)})
		}
		s.all, s.size = rangesOf(spans...), size
	}
	return s.all, s.size == size
}

// NFTA_LOOKUP_SET 1, SREG 2, DREG 3, FLAGS 5 (NFT_LOOKUP_F_INV 1).
func (e *exprs) lookup(n nested) step {
	name, sreg, dreg, invert := n.text(1), n.be32(2), n.be32(3), n.be32(5)&1 != 0
	set := e.tables.set(setKey{e.key.tableKey, name})
	isMap := n.has(3)
	o := e.regs[sreg]
	sign, at := "", "@"+name
	if invert {
		sign = "!= "
	}
	text := o.text + " " + sign + at
	if isMap {
		text = o.text + " map " + at
		e.regs[dreg] = operand{text: text}
	}
	if isMap && dreg == 0 {
		text = o.text + " vmap " + at
	}
	if !isMap || dreg == 0 {
		e.say(text, "("+text+")")
	}
	e.rule.asks |= o.asks(o.mask)
	return func(m *machine) effect {
		if err := e.tables.loadSet(set); err != nil {
			if isMap && dreg == 0 {
				return effect{match: maybe, verdict: &verdict{kind: verdictUnknown}}
			}
			m.load(dreg, content{size: 16})
			return matched(maybe)
		}
		if d, ok := m.wholeField(m.read(sreg)); ok && !isMap {
			if all, ok := set.union(m.packet.size(d)); ok {
				return matched(invertIf(m.is(d, all), invert))
			}
		}
		found, hits := set.hits(m, sreg)
		switch {
		case !isMap:
			return matched(invertIf(found, invert))
		case found == no:
			return matched(no)
		case dreg != 0:
			c := content{size: 16}
			if data := parseNested(hits[0].data)[1]; len(hits) == 1 {
				c = content{size: len(data), values: [][]byte{data}}
			}
			m.load(dreg, c)
			return matched(found)
		}
		var either []verdict
		for _, el := range hits {
			v, _, _ := e.verdictOf(parseNested(parseNested(el.data)[2]))
			if !slices.Contains(either, v) {
				either = append(either, v)
			}
		}
		if len(either) > maxStates {
			either = []verdict{{kind: verdictUnknown}}
		}
		return effect{match: found, either: either}
	}
}

// hits are the elements that may match, and whether one of them does for certain.
func (s *nftSet) hits(m *machine, register uint32) (found truth, hits []*setElement) {
	var rest *setElement
	for i := range s.elements {
		e := &s.elements[i]
		if e.catchAll {
			rest = e
			continue
		}
		if t := s.match(m, register, e); len(e.key) > 0 && t != no {
			found, hits = found.or(t), append(hits, e)
		}
	}
	if rest != nil && found != yes {
		found, hits = yes, append(hits, rest)
	}
	return found, hits
}
