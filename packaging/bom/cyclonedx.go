package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// The part of CycloneDX 1.5 that is used here (https://cyclonedx.org/docs/1.5/json/).
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Scope      string     `json:"scope,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []licenses `json:"licenses,omitempty"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licenses struct {
		License license `json:"license"`
	}
	license struct {
		ID string `json:"id"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

func writeSBOM(out io.Writer, path string, info *debug.BuildInfo, modules []module, date time.Time) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	version := os.Getenv("VERSION")
	if version == "" {
		version = info.Main.Version
	}
	main := component{
		Type: "application", Name: filepath.Base(path), Version: version,
		PURL:     purl(info.Main.Path, version),
		Hashes:   []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
		Licenses: []licenses{{license{"Apache-2.0"}}},
	}
	main.Ref = main.PURL
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "-ldflags", "-trimpath", "vcs.revision":
			main.Properties = append(main.Properties, property{"build:" + s.Key, s.Value})
		}
	}
	b := bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1, Serial: "urn:uuid:" + uuid(sum),
		Metadata: metadata{date.Format(time.RFC3339), main},
	}
	direct := dependency{Ref: main.Ref, DependsOn: []string{}}
	for _, m := range modules {
		c := component{
			Type: "library", Name: m.path, Version: m.version, Scope: "required", PURL: purl(m.path, m.version),
			Licenses: []licenses{{license{m.license}}},
		}
		c.Ref = c.PURL
		// go.sum's h1 is the base64 SHA-256 of the module's file hashes (golang.org/x/mod/sumdb/dirhash).
		if h, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.sum, "h1:")); err == nil && len(h) == sha256.Size {
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(h)}}
		}
		b.Components = append(b.Components, c)
		direct.DependsOn = append(direct.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{direct}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(b)
}

// purl is a package URL (https://github.com/package-url/purl-spec, type golang).
func purl(path, version string) string {
	return fmt.Sprintf("pkg:golang/%s@%s", path, strings.ReplaceAll(version, "+", "%2B"))
}

// uuid is a version 8 UUID (RFC 9562, 5.8) of the binary's hash: the same binary has the same bill.
func uuid(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	x := hex.EncodeToString(sum[:16])
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}
