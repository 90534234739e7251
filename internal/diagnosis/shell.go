package diagnosis

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shellWord writes s so that a shell reads it as one word and nothing else. A device name may hold anything but a
// slash, a colon and white space (net/core/dev.c, dev_valid_name): quotes, $(), semicolons, control bytes. Plain names
// stay plain, others are put in single quotes, and what a terminal would not show as it is goes into $'…' (bash, ksh,
// zsh and POSIX 2024).
func shellWord(s string) string {
	switch {
	case s != "" && !strings.ContainsFunc(s, special):
		return s
	case utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c) // octal is at most three digits, so what follows cannot be taken for a part of it
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// special reports whether a shell may give r a meaning inside a word.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-@%+:,/", r)
}
