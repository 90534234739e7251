package natrules

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

const maxElements = 4096

// nftSet is a named or anonymous set or map.
type nftSet struct {
	elements []setElement
	fields   []int // lengths of the fields of a concatenation
	interval bool
	err      error
	all      ranges // the elements, where the keys of all are of size bytes, at most 16, and no concatenations
	size     int
}

// setElement is one element: key to keyEnd.
type setElement struct {
	key, keyEnd []byte
	end         bool   // marks where an interval ends, itself not in it
	catchAll    bool   // matches what nothing else does
	data        []byte // NFTA_SET_ELEM_DATA of a map
}

// set is the one set of that name in the rule's table, read when a walk first asks it.
func (t *nftables) set(k setKey) *nftSet {
	s := t.sets[k]
	if s == nil {
		s = &nftSet{}
		t.sets[k] = s
		if s.err = t.readSet(k, s); s.err == nil {
			s.prepare()
		}
	}
	return s
}

func (t *nftables) readSet(k setKey, s *nftSet) error {
	q := request{kind: unix.NFT_MSG_GETSET, family: k.family}
	q.attrs = named(named(nil, unix.NFTA_SET_TABLE, k.name), unix.NFTA_SET_NAME, k.set) // of elements: the same numbers
	n, err := t.conn.get(q)
	if err != nil {
		return err
	}
	s.interval = n.be32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_INTERVAL != 0
	const descConcat, fieldLen = 2, 1 // NFTA_SET_DESC_CONCAT, of NFTA_SET_FIELD_LEN
	for _, field := range nl.Attrs(parseNested(n[unix.NFTA_SET_DESC])[descConcat]) {
		s.fields = append(s.fields, int(parseNested(field).be32(fieldLen)))
	}
	q.kind = unix.NFT_MSG_GETSETELEM
	return t.conn.dump(q, func() { s.elements = nil }, func(_ uint8, b []byte) error {
		for _, element := range nl.Attrs(parseNested(b)[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
			if len(s.elements) == maxElements {
				return fmt.Errorf("set %s: more than %d elements", k.set, maxElements)
			}
			s.elements = append(s.elements, parseElement(element))
		}
		return nil
	})
}

func parseElement(b []byte) setElement {
	const keyEnd, catchAll = 10, 2 // NFTA_SET_ELEM_KEY_END, NFT_SET_ELEM_CATCHALL
	n := parseNested(b)
	flags := n.be32(unix.NFTA_SET_ELEM_FLAGS)
	return setElement{
		key: bytes.Clone(n.value(unix.NFTA_SET_ELEM_KEY)), keyEnd: bytes.Clone(n.value(keyEnd)),
		data: bytes.Clone(n[unix.NFTA_SET_ELEM_DATA]),
		end:  flags&unix.NFT_SET_ELEM_INTERVAL_END != 0, catchAll: flags&catchAll != 0,
	}
}

// prepare turns the borders of intervals, which the kernel lists one by one, into intervals.
func (s *nftSet) prepare() {
	borders := s.elements
	if s.interval && len(s.fields) < 2 {
		borders, s.elements = slices.Clone(borders), s.elements[:0]
		slices.SortStableFunc(borders, func(a, b setElement) int { return bytes.Compare(a.key, b.key) })
		for i, b := range borders {
			if b.end {
				continue
			}
			if size := len(b.key); b.keyEnd == nil && !b.catchAll && size <= 16 {
				b.keyEnd = bytes.Repeat([]byte{0xff}, size)
				differs := func(after setElement) bool { return !bytes.Equal(after.key, b.key) }
				if k := slices.IndexFunc(borders[i:], differs); k >= 0 {
					b.keyEnd = numberOf(borders[i+k].key).before().bytes(size)
				}
			}
			s.elements = append(s.elements, b)
		}
	}
	var spans []span
	for i := range s.elements {
		e := &s.elements[i]
		if len(e.keyEnd) != len(e.key) {
			e.keyEnd = e.key
		}
		s.size = cmp.Or(s.size, len(e.key))
		if e.catchAll || len(e.key) != s.size || s.size > 16 || len(s.fields) > 1 {
			s.size = -1
		}
		spans = append(spans, span{numberOf(e.key), numberOf(e.keyEnd)})
	}
	s.all = rangesOf(spans...)
}

// match compares an element with what is in registers.
func (s *nftSet) match(m *machine, reg func(words int) operand, e *setElement) truth {
	if len(s.fields) < 2 {
		return m.inRange(reg(0).content(m), e.key, e.keyEnd)
	}
	t, off := yes, 0
	for _, n := range s.fields { // each field starts a register of its own
		if n <= 0 || off+n > len(e.key) {
			return maybe
		}
		t = t.and(m.inRange(reg(off/4).content(m), e.key[off:off+n], e.keyEnd[off:off+n]))
		off += (n + 3) &^ 3
	}
	return t
}

// hits are the elements that may match, and whether one of them does for certain. A set that could not be read has
// none, and may hold the packet.
func (s *nftSet) hits(m *machine, reg func(words int) operand) (found truth, hits []*setElement) {
	if s.err != nil {
		return maybe, nil
	}
	var rest *setElement
	for i := range s.elements {
		e := &s.elements[i]
		if e.catchAll {
			rest = e
			continue
		}
		if t := s.match(m, reg, e); len(e.key) > 0 && t != no {
			found, hits = found.or(t), append(hits, e)
		}
	}
	if rest != nil && found != yes {
		found, hits = yes, append(hits, rest)
	}
	return found, hits
}

// contains asks for all elements at once where the registers hold one field: a packet is split once then.
func (s *nftSet) contains(m *machine, reg func(words int) operand) truth {
	if p, ok := m.whole(reg(0).content(m)); ok && s.err == nil && s.size == m.width(p) {
		return m.within(p, s.all)
	}
	found, _ := s.hits(m, reg)
	return found
}

// NFTA_LOOKUP_SET 1, SREG 2, DREG 3, FLAGS 5 (NFT_LOOKUP_F_INV 1). A map with DREG 0 has verdicts.
func (e *exprs) lookup(n nested) step {
	name, dreg, invert := n.text(1), n.be32(3), n.be32(5)&1 != 0
	o, tables, key := e.reg(n.be32(2)), e.tables, setKey{e.key.tableKey, n.text(1)}
	reg := e.from(n.be32(2))
	e.rule.asks |= o.asks(o.mask)
	switch sign := ""; {
	case !n.has(3):
		if invert {
			sign = "!= "
		}
		text := o.text + " " + sign + "@" + name
		e.say(text, "("+text+")")
		return matchStep(func(m *machine) truth { return invertIf(tables.set(key).contains(m, reg), invert) })
	case dreg != 0:
		e.load(dreg, operand{text: o.text + " map @" + name, size: 16, load: func(m *machine) content {
			if _, hits := tables.set(key).hits(m, reg); len(hits) == 1 {
				return constantContent(parseNested(hits[0].data)[1])
			}
			return content{}
		}})
		return matchStep(func(m *machine) truth {
			found, _ := tables.set(key).hits(m, reg)
			return found
		})
	}
	text := o.text + " vmap @" + name
	e.say(text, "("+text+")")
	return func(m *machine) effect {
		found, hits := tables.set(key).hits(m, reg)
		if found == no {
			return matched(no)
		}
		var either []verdict
		for _, el := range hits {
			v, _, _ := e.verdictOf(parseNested(parseNested(el.data)[2]))
			if !slices.Contains(either, v) {
				either = append(either, v)
			}
		}
		if len(either) == 0 || len(either) > maxStates {
			either = []verdict{{kind: verdictUnknown}}
		}
		return effect{match: found, ends: either}
	}
}
