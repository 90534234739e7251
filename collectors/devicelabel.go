package collectors

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// DeviceLabel is a device's name as a label value. Linux allows any bytes in it but '/', ':' and white space
// (net/core/dev.c, dev_valid_name); a label must be UTF-8. Bytes that are not become U+FFFD and two hexadecimal digits,
// and U+FFFD itself becomes U+FFFD and "00", so that two names never become one label.
func DeviceLabel(name string) string {
	if utf8.ValidString(name) && !strings.ContainsRune(name, utf8.RuneError) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		switch {
		case r != utf8.RuneError:
			b.WriteRune(r)
		case n == 1:
			fmt.Fprintf(&b, "\uFFFD%02x", name[i])
		default:
			b.WriteString("\uFFFD00")
		}
		i += n
	}
	return b.String()
}
