package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"
)

// describe is the bill of materials of an image: its files with their hashes,
// and what they were made from, which Go programs know of themselves and Debian
// of its own.
func describe(r recipe, c config, files tree, packages []debianPackage) ([]byte, error) {
	b := bill{seen: map[string]bool{}}
	image := b.add(spdxPackage{Name: r.title, Version: c.tag, Purpose: "CONTAINER"}, "image")
	b.relate("SPDXRef-DOCUMENT", "DESCRIBES", image)
	for _, at := range slices.Sorted(maps.Keys(files)) {
		if e := files[at]; !e.dir {
			if err := b.file(image, at, e); err != nil {
				return nil, err
			}
		}
	}
	b.packages[0].Analyzed, b.packages[0].Verify = true, &spdxVerify{b.verification(), []string{"./" + r.sbom()}}
	program := path.Join(c.bin, r.program)
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	b.goProgram(image, info, c.tag)
	for _, p := range packages {
		b.relate(image, "CONTAINS", b.add(spdxPackage{
			Name: p.name, Version: p.version,
			ExternalRef: purl("pkg:deb/debian/" + p.name + "@" + p.version + "?arch=" + p.arch),
		}, "deb"))
	}
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: r.title,
		// No clock: the same programs have the same bill.
		Creation: spdxCreation{Created: "1970-01-01T00:00:00Z", Creators: []string{"Tool: hasp images"}},
		Packages: b.packages, Files: b.files, Relationships: b.relationships,
	}
	content, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	// A document's name is to be its own: made from all that it says.
	d.Namespace = fmt.Sprintf("https://spdx.org/spdxdocs/%s-%x", r.title, sha256.Sum256(content))
	out, err := json.MarshalIndent(d, "", " ")
	return append(out, '\n'), err
}

// bill is a document in the making.
type bill struct {
	packages      []spdxPackage
	files         []spdxFile
	relationships []spdxRelationship
	seen          map[string]bool // ids
}

// add adds a package once, and is its id.
func (b *bill) add(p spdxPackage, kind string) string {
	p.ID = "SPDXRef-" + kind + "-" + reference(p.Name+"-"+p.Version)
	p.Download, p.License, p.Declared, p.Copyright = noAssertion, noAssertion, noAssertion, noAssertion
	if !b.seen[p.ID] {
		b.seen[p.ID] = true
		b.packages = append(b.packages, p)
	}
	return p.ID
}

func (b *bill) relate(from, how, to string) {
	b.relationships = append(b.relationships, spdxRelationship{from, how, to})
}

// goProgram adds a Go program's modules and its standard library.
func (b *bill) goProgram(image string, info *debug.BuildInfo, version string) {
	main := b.add(spdxPackage{Name: info.Path, Version: version, Purpose: "APPLICATION", ExternalRef: purl("pkg:golang/" + info.Path + "@" + version)}, "go")
	b.relate(image, "CONTAINS", main)
	std := strings.TrimPrefix(info.GoVersion, "go")
	b.relate(main, "DEPENDS_ON", b.add(spdxPackage{Name: "stdlib", Version: std, ExternalRef: purl("pkg:golang/stdlib@" + std)}, "go"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p := spdxPackage{Name: m.Path, Version: m.Version, ExternalRef: purl("pkg:golang/" + m.Path + "@" + m.Version)}
		if m.Sum != "" {
			p.Comment = "go.sum " + m.Sum
		}
		b.relate(main, "DEPENDS_ON", b.add(p, "go"))
	}
}

// file adds a file of the image with the two hashes that SPDX wants.
func (b *bill) file(image, at string, e entry) error {
	one, two := sha1.New(), sha256.New()
	if err := e.read(io.MultiWriter(one, two)); err != nil {
		return err
	}
	id := "SPDXRef-file-" + reference(at)
	b.files = append(b.files, spdxFile{
		ID: id, Name: "./" + at, License: noAssertion, Copyright: noAssertion,
		Checksums: []spdxChecksum{{"SHA1", sum(one)}, {"SHA256", sum(two)}},
	})
	b.relate(image, "CONTAINS", id)
	return nil
}

// verification is SPDX's hash of all files: of their SHA1s, sorted.
func (b *bill) verification() string {
	var sums []string
	for _, f := range b.files {
		sums = append(sums, f.Checksums[0].Value)
	}
	slices.Sort(sums)
	all := sha1.Sum([]byte(strings.Join(sums, "")))
	return hex.EncodeToString(all[:])
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// purl is a reference to a package (github.com/package-url).
func purl(locator string) []spdxExternal {
	return []spdxExternal{{"PACKAGE-MANAGER", "purl", strings.ReplaceAll(locator, "+", "%2B")}}
}

// reference makes an SPDX id of a name: letters, digits, dots and hyphens, with
// a mark of the name where those are not enough.
func reference(name string) string {
	id := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-':
			return c
		}
		return '-'
	}, name)
	if id == name {
		return id
	}
	hash := sha256.Sum256([]byte(name))
	return id + "-" + hex.EncodeToString(hash[:4])
}
