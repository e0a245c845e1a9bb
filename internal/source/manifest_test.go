package source

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

func entry(path string, mode uint32) Entry { return Entry{Path: path, Mode: mode} }

func link(path, target string) Entry {
	return Entry{Path: path, Mode: TypeLink | 0o777, Target: target}
}

func TestManifestCheck(t *testing.T) {
	file, folder := uint32(TypeFile|0o644), uint32(TypeFolder|0o755)
	for name, c := range map[string]struct {
		m  Manifest
		ok bool
	}{
		"empty":               {nil, true},
		"file":                {Manifest{entry("a", file)}, true},
		"file in folder":      {Manifest{entry("a", folder), entry("a/b", file)}, true},
		"link anywhere":       {Manifest{link("a", "../../etc/passwd"), link("b", "/etc")}, true},
		"setuid":              {Manifest{entry("a", TypeFile|0o4755)}, true},
		"names with dots":     {Manifest{entry("..a", file), entry("...", file), entry("a..", file)}, true},
		"the folder itself":   {Manifest{entry(".", folder)}, false},
		"nothing":             {Manifest{entry("", file)}, false},
		"absolute":            {Manifest{entry("/etc/passwd", file)}, false},
		"upwards":             {Manifest{entry("../a", file)}, false},
		"upwards inside":      {Manifest{entry("a", folder), entry("a/../../b", file)}, false},
		"unclean":             {Manifest{entry("a", folder), entry("a//b", file)}, false},
		"slash at the end":    {Manifest{entry("a/", folder)}, false},
		"backslash":           {Manifest{entry(`..\a`, file)}, false},
		"zero byte":           {Manifest{entry("a\x00b", file)}, false},
		"not UTF-8":           {Manifest{entry("a\xff", file)}, false},
		"below a file":        {Manifest{entry("a", file), entry("a/b", file)}, false},
		"below a link":        {Manifest{link("a", "/etc"), entry("a/passwd", file)}, false},
		"without its folder":  {Manifest{entry("a/b", file)}, false},
		"before its folder":   {Manifest{entry("a/b", file), entry("a", folder)}, false},
		"twice":               {Manifest{entry("a", file), entry("a", file)}, false},
		"link then folder":    {Manifest{link("a", "/etc"), entry("a", folder), entry("a/passwd", file)}, false},
		"folder then link":    {Manifest{entry("a", folder), link("a", "/etc"), entry("a/passwd", file)}, false},
		"device":              {Manifest{entry("a", 0o060644)}, false},
		"no type":             {Manifest{entry("a", 0o644)}, false},
		"further bits":        {Manifest{entry("a", TypeFile|1<<20)}, false},
		"link without target": {Manifest{link("a", "")}, false},
		"link to zero byte":   {Manifest{link("a", "b\x00")}, false},
		"file with target":    {Manifest{{Path: "a", Mode: TypeFile, Target: "b"}}, false},
		"file below zero":     {Manifest{{Path: "a", Mode: TypeFile, Size: -1}}, false},
		"folder with size":    {Manifest{{Path: "a", Mode: TypeFolder, Size: 1}}, false},
		"long name":           {Manifest{entry(strings.Repeat("a", 256), file)}, false},
		"long path":           {Manifest{entry(strings.Repeat("a/", 3000)+"a", file)}, false},
		"too many":            {make(Manifest, MaxEntries+1), false},
	} {
		if err := c.m.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		} else if kind := maru.KindOf(err); err != nil && kind != maru.Invalid && kind != maru.Exhausted {
			t.Errorf("%s: kind %s", name, kind)
		}
	}
}

func TestIDTellsManifestsApart(t *testing.T) {
	file := uint32(TypeFile | 0o644)
	all := []Manifest{
		{}, {entry("a", file)}, {entry("b", file)}, {entry("a", TypeFile|0o755)}, {entry("a", TypeFolder|0o755)},
		{{Path: "a", Mode: file, Size: 1}}, {{Path: "a", Mode: file, Digest: Digest{1}}}, {link("a", "b")}, {link("a", "c")},
		{entry("a", file), entry("b", file)}, {entry("a\n", file)}, {link("a", "b\" ")},
	}
	seen := map[string]int{}
	for i, m := range all {
		if j, twice := seen[m.ID()]; twice {
			t.Errorf("manifests %d and %d have one ID", i, j)
		}
		seen[m.ID()] = i
	}
}

// FuzzManifest holds every manifest that is let through against what layers below rely on.
func FuzzManifest(f *testing.F) {
	for _, m := range []Manifest{{entry("a", TypeFolder|0o755), entry("a/b", TypeFile|0o644)}, {link("x", "..")}, {entry("../x", TypeFile)}} {
		f.Add([]byte(maru.Raw(m)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		if json.Unmarshal(data, &m) != nil || m.Check() != nil {
			return
		}
		links := map[string]bool{}
		for _, e := range m {
			if !fs.ValidPath(e.Path) || strings.Contains(e.Path, "..") && e.Path != strings.TrimPrefix(e.Path, "../") {
				t.Fatalf("path %q is let through", e.Path)
			}
			for i := range e.Path {
				if e.Path[i] == '/' && links[e.Path[:i]] {
					t.Fatalf("path %q leads through a link", e.Path)
				}
			}
			if !e.IsFolder() {
				links[e.Path] = true
			}
		}
	})
}

func FuzzCache(f *testing.F) {
	f.Add(encodeCache(map[string]cached{"a b\n": {stamp{1, 2, 3, 4}, Digest{5}}}))
	f.Add([]byte(cacheVersion + "\n1 2 3 4 00 \"x\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		once := decodeCache(data)
		again := decodeCache(encodeCache(once))
		if len(once) != len(again) {
			t.Fatalf("%d entries, and %d when written and read again", len(once), len(again))
		}
		for path, e := range once {
			if again[path] != e {
				t.Fatalf("%q: %v is read as %v", path, e, again[path])
			}
		}
	})
}
