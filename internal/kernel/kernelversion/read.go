package kernelversion

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxLine bounds a file of /proc/sys/kernel: the fields of struct new_utsname are 65 bytes
	// (include/uapi/linux/utsname.h).
	maxLine = 256
	// maxOSRelease bounds os-release, which os-release(5) leaves open; those in use are under 1 KiB.
	maxOSRelease = 64 << 10
	// maxOSValue bounds one value kept from os-release.
	maxOSValue = 256
)

// Read reads the running kernel's release and version from proc (normally "/proc"), the machine name from uname(2), and
// the distribution from the file osRelease; "": not asked. A missing os-release is no error: Info.OS is nil then. An
// error about os-release comes together with an Info that is complete but for it.
func Read(proc, osRelease string) (Info, error) {
	var info Info
	var err error
	if info.Release, err = readLine(filepath.Join(proc, "sys/kernel/osrelease")); err != nil {
		return Info{}, err
	}
	if info.Version, err = readLine(filepath.Join(proc, "sys/kernel/version")); err != nil {
		return Info{}, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return info, fmt.Errorf("release: uname: %w", err)
	}
	info.Machine = unix.ByteSliceToString(uts.Machine[:])
	b, err := readLimited(osRelease, maxOSRelease)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	info.OS = parseOSRelease(string(b))
	return info, err
}

func readLine(path string) (string, error) {
	b, err := readLimited(path, maxLine)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(b))
	if line == "" {
		return "", fmt.Errorf("release: %s is empty", path)
	}
	return printable(line), nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("release: read %s: %w", path, err)
	}
	return b, nil
}

// parseOSRelease keeps the three fields that say which distribution this is. Lines are VARIABLE=value with shell
// quoting (os-release(5)); what does not look like that is passed over.
func parseOSRelease(text string) map[string]string {
	var kept map[string]string
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = unquote(value)
		if (name == "ID" || name == "VERSION_ID" || name == "PRETTY_NAME") && value != "" && len(value) <= maxOSValue {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[name] = printable(value)
		}
	}
	return kept
}

// unquote undoes the quoting that os-release(5) allows: single or double quotes around the whole value, and a backslash
// before $, ", \ and ` within double quotes.
func unquote(s string) string {
	if len(s) < 2 || s[0] != s[len(s)-1] || (s[0] != '"' && s[0] != '\'') {
		return s
	}
	inner := s[1 : len(s)-1]
	if s[0] == '\'' {
		return inner
	}
	return strings.NewReplacer(`\$`, "$", `\"`, `"`, `\\`, `\`, "\\`", "`").Replace(inner)
}

// printable keeps what is shown in metrics, reports and terminals free of control characters and of bytes that are not
// UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
