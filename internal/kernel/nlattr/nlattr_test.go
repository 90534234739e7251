package nlattr

import (
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
