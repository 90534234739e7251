// Command bom says what is in a binary: `bom sbom BINARY` prints a CycloneDX bill of materials, `bom licenses BINARY` the licences of
// the Go modules that are linked into it, `bom table BINARY` a page that names both. All read the module list that the Go linker stored in the binary, so they are of that
// binary and not of a go.mod, and the same binary gives the same output.
package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bom:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: bom sbom|licenses|table BINARY")
	}
	info, err := buildinfo.ReadFile(args[1])
	if err != nil {
		return err
	}
	modules, err := modulesOf(info, moduleCache())
	if err != nil {
		return err
	}
	switch args[0] {
	case "sbom":
		return writeSBOM(out, args[1], info, modules, sourceDate())
	case "licenses":
		return writeLicenses(out, modules)
	case "table":
		return writeTable(out, modules)
	default:
		return fmt.Errorf("no such output: %s", args[0])
	}
}

// moduleCache is where Go keeps the modules' sources (go help environment).
func moduleCache() string {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	if path := filepath.SplitList(os.Getenv("GOPATH")); len(path) > 0 {
		return filepath.Join(path[0], "pkg", "mod")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	return filepath.Join(home, "go", "pkg", "mod")
}

// goRoot is where the Go distribution is, whose licence the standard library has.
func goRoot() string {
	if dir := os.Getenv("GOROOT"); dir != "" {
		return dir
	}
	return runtime.GOROOT() //nolint:staticcheck // run by `go run`, on the machine that built it
}

// sourceDate is SOURCE_DATE_EPOCH, and the epoch itself without it: the output must not depend on the clock.
func sourceDate() time.Time {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		seconds = 0
	}
	return time.Unix(seconds, 0).UTC()
}
