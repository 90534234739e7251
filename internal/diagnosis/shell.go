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
	plain, printable := s != "", true
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && n <= 1) || !unicode.IsPrint(r) {
			printable = false
		}
		if !isPlain(r) {
			plain = false
		}
		i += n
	}
	switch {
	case plain:
		return s
	case printable:
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

// isPlain reports whether no shell gives r a meaning inside a word.
func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@%+:,/", r)
}
