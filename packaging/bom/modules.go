package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"unicode"
)

// module is a Go module that is linked into the binary, with its licence files.
type module struct {
	path, version, sum string
	license            string // SPDX identifier
	files              []file
}

type file struct{ name, text string }

// legal matches the names of files that a licence asks to be passed on.
var legal = regexp.MustCompile(`^(?i)(LICEN[CS]E|COPYING|NOTICE|PATENTS)(\.|$)`)

// modulesOf lists the modules in the binary, the standard library first.
func modulesOf(info *debug.BuildInfo, cache string) ([]module, error) {
	std := module{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}
	all := []module{std}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		all = append(all, module{path: d.Path, version: d.Version, sum: d.Sum})
	}
	for i := range all {
		m := &all[i]
		dir := filepath.Join(cache, escape(m.path)+"@"+escape(m.version))
		if m.path == "std" {
			dir = goRoot()
		}
		if err := m.read(dir); err != nil {
			return nil, fmt.Errorf("%s %s: %w (run go mod download, or say where modules are with GOMODCACHE)", m.path, m.version, err)
		}
	}
	return all, nil
}

// read fills in the licence files that are in dir.
func (m *module) read(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !legal.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.files = append(m.files, file{e.Name(), string(b)})
		if m.license == "" {
			m.license = identify(string(b))
		}
	}
	if m.license == "" {
		return fmt.Errorf("no licence that is known in %s", dir)
	}
	return nil
}

// identify returns the SPDX identifier of a licence text, and nothing when it is none of those that are known.
func identify(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case strings.Contains(text, "Apache License Version 2.0"):
		return "Apache-2.0"
	case strings.Contains(text, "Permission is hereby granted, free of charge"):
		return "MIT"
	case strings.Contains(text, "Redistribution and use in source and binary forms") && strings.Contains(text, "Neither the name"):
		return "BSD-3-Clause"
	case strings.Contains(text, "Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	}
	return ""
}

// escape writes a path as the module cache does: "!a" for "A" (golang.org/x/mod/module, EscapePath).
func escape(path string) string {
	var b strings.Builder
	for _, r := range path {
		if unicode.IsUpper(r) {
			b.WriteByte('!')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func writeLicenses(out io.Writer, modules []module) error {
	var b strings.Builder
	b.WriteString("vxlan_exporter is a static binary. It contains these Go modules, under these licences.\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "\n%s\n%s %s (%s)\n", strings.Repeat("=", 80), m.path, m.version, m.license)
		for _, f := range m.files {
			fmt.Fprintf(&b, "\n--- %s\n\n%s\n", f.name, strings.TrimRight(f.text, "\n"))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// writeTable writes docs/LICENSES.md. The standard library has no version there: it is that of whoever builds.
func writeTable(out io.Writer, modules []module) error {
	var b strings.Builder
	b.WriteString(`# Licences of what is in the binary

The program is a static binary under the Apache License 2.0. These Go modules are linked into it; their licence texts are in every package
(third-party-licenses). Made from the binary by ` + "`make licenses`; `make test-licenses`" + ` fails when it is not of the binary any more.

| module | version | licence |
|---|---|---|
`)
	for _, m := range modules {
		version := m.version
		if m.path == "std" {
			version = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.path, version, m.license)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
