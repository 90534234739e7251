package natrules

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A message to an nfnetlink subsystem that is not there makes the kernel run modprobe for it, if the sender has
// CAP_NET_ADMIN (net/netfilter/nfnetlink.c, nfnetlink_rcv_msg); so does opening the socket. No question about nf_tables
// is answered without that, and no file in /proc/net shows it. So it is asked only where it is listed among the loaded
// modules, where no module can be loaded, or where the kernel's configuration, modules.builtin or its symbols say that
// it is built in. Where those may not be read, it cannot be told; where none of them exists, it counts as not built in:
// kernels that have it built in have /proc/kallsyms.

// gate holds the paths it looks at.
type gate struct {
	proc, sys, boot, modules string

	builtin *bool // whether it is built in, once that was seen: it does not change while the kernel runs
}

var errHidden = errors.New("nftables: nf_tables is not a loaded module, and whether it is built in cannot be seen")

// nftables reports whether nf_tables is there to be asked.
func (g *gate) nftables() (bool, error) {
	if _, err := os.Stat(filepath.Join(g.sys, "module/nf_tables")); err == nil {
		return true, nil
	}
	listed, err := anyLine(filepath.Join(g.proc, "modules"), isModule("nf_tables"))
	switch {
	case listed:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(g.proc, "sys/kernel")); err != nil {
			return false, fmt.Errorf("nftables: %s is hidden: %w", g.proc, fs.ErrPermission)
		}
		return true, nil
	case err != nil:
		return false, fmt.Errorf("nftables: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(g.proc, "sys/kernel/modules_disabled"))
	if err == nil && strings.TrimSpace(string(b)) == "1" {
		return true, nil
	}
	if g.builtin == nil {
		builtin, err := g.builtIn()
		if err != nil {
			return false, err
		}
		g.builtin = &builtin
	}
	return *g.builtin, nil
}

// noLegacyTables reports whether it is certain, without root's files, that no legacy table exists: ip_tables is a
// loaded module, so what depends on it cannot be built in (Documentation/kbuild/kconfig-language.rst), and none of the
// tables' modules is loaded.
func (g *gate) noLegacyTables(ipv6 bool) bool {
	core, prefix := "ip_tables", "iptable_"
	if ipv6 {
		core, prefix = "ip6_tables", "ip6table_"
	}
	loaded, tables := false, false
	_, err := anyLine(filepath.Join(g.proc, "modules"), func(line []byte) bool {
		loaded = loaded || isModule(core)(line)
		for _, t := range legacyTables {
			tables = tables || isModule(prefix+t.name)(line)
		}
		return tables
	})
	return err == nil && loaded && !tables
}

// isModule asks a line of /proc/modules, whose first word is the module's name.
func isModule(name string) func(line []byte) bool {
	return func(line []byte) bool {
		rest, is := bytes.CutPrefix(line, []byte(name))
		return is && (len(rest) == 0 || rest[0] == ' ')
	}
}

const maxGateFile = 4 << 20 // unpacked configurations are about 250 KiB

// anyLine reports whether a line of a file, which may be packed, passes a test.
func anyLine(path string, passes func(line []byte) bool) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if !strings.HasSuffix(path, ".gz") {
		return anyLineOf(f, passes)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return false, err
	}
	return anyLineOf(io.LimitReader(z, maxGateFile), passes)
}

func anyLineOf(r io.Reader, passes func(line []byte) bool) (bool, error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		if passes(s.Bytes()) {
			return true, nil
		}
	}
	return false, s.Err()
}

func (g *gate) builtIn() (bool, error) {
	version, err := g.release()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	configured := func(line []byte) bool { return string(line) == "CONFIG_NF_TABLES=y" }
	var unread error
	for _, look := range []struct {
		path string
		has  func(line []byte) bool
	}{
		{filepath.Join(g.proc, "config.gz"), configured},
		{filepath.Join(g.boot, "config-"+version), configured},
		{filepath.Join(g.modules, version, "modules.builtin"), func(line []byte) bool {
			return bytes.Contains(line, []byte("/nf_tables.ko"))
		}},
		{filepath.Join(g.proc, "kallsyms"), func(line []byte) bool {
			return bytes.HasSuffix(line, []byte(" nft_do_chain")) // of a module, its name would follow
		}},
	} {
		builtin, err := anyLine(look.path, look.has)
		if err == nil {
			return builtin, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			unread = errors.Join(unread, err)
		}
	}
	if unread != nil {
		return false, fmt.Errorf("%w: %w", errHidden, unread)
	}
	return false, nil
}

// release is uname -r.
func (g *gate) release() (string, error) {
	b, err := os.ReadFile(filepath.Join(g.proc, "sys/kernel/osrelease"))
	return strings.TrimSpace(string(b)), err
}
