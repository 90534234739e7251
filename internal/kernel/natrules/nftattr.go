package natrules

import (
	"encoding/binary"
	"maps"

	"vxlan_exporter/internal/kernel/nl"
)

// nested are the attributes of one level, by type; nf_tables gives every type once, but in lists.
type nested map[uint16][]byte

func parseNested(b []byte) nested {
	n := nested{}
	maps.Insert(n, nl.Attrs(b))
	return n
}

// be32 reads a number; all numbers of nf_tables are big-endian. 0 when it is not there.
func (n nested) be32(kind uint16) uint32 {
	if b := n[kind]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (n nested) be64(kind uint16) uint64 {
	if b := n[kind]; len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (n nested) text(kind uint16) string { return nl.Text(n[kind]) }

func (n nested) has(kind uint16) bool { _, ok := n[kind]; return ok }

// value is NFTA_DATA_VALUE of a nested NFTA_* data attribute.
func (n nested) value(kind uint16) []byte { return parseNested(n[kind])[1] }
