package nl

import (
	"errors"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
)

// The library's encoder must agree, for every padding.
func TestAppend(t *testing.T) {
	for n := range 9 {
		value := slices.Repeat([]byte{0xab}, n)
		want, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: 0x8007, Data: value}, {Type: 2, Data: []byte("x")}})
		if err != nil {
			t.Fatal(err)
		}
		if got := Append(Append(nil, 0x8007, value), 2, "x"); !slices.Equal(got, want) {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
}

// What is behind an attribute that does not fit is not passed over without a word, and one of no length does not go on
// for ever.
func TestMalformedAttributes(t *testing.T) {
	one := Append(nil, 1|Nested|NetByteOrder, "a")
	for _, tt := range []struct {
		name       string
		b          []byte
		attributes int
		wellFormed bool
	}{
		{"none", nil, 0, true},
		{"one", one, 1, true},
		{"without its padding", one[:5], 1, true},
		{"without a value", Append(one, 23, ""), 2, true},
		{"too long", append(slices.Clone(one), 5, 0, 1, 0), 1, false},
		{"of no length", append(slices.Clone(one), 0, 0, 1, 0), 1, false},
		{"shorter than a header", append(slices.Clone(one), 4, 0), 1, false},
	} {
		n := 0
		for typ := range Attrs(tt.b) {
			n++
			if typ != 1 && typ != 23 {
				t.Errorf("%s: type %#x", tt.name, typ)
			}
		}
		each := 0
		err := Each(tt.b, func(uint16, []byte) error { each++; return nil })
		if n != tt.attributes || each != n || WellFormed(tt.b) != tt.wellFormed ||
			errors.Is(err, ErrMalformed) == tt.wellFormed {
			t.Errorf("%s: %d and %d attributes, well formed %v, %v", tt.name, n, each, WellFormed(tt.b), err)
		}
	}
	if yes := Flag(nil); yes == nil || !*yes {
		t.Error("a flag without a value is not set")
	}
}
