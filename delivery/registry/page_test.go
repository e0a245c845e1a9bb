package registry_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPage holds docs/registry.md against the tests that there are: each line of its tables of rules names one,
// each that it names is there, and each of this package is named.
func TestPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, found := strings.Cut(string(data), "\n## Conformance\n")
	if !found {
		t.Fatal("there is no section of conformance")
	}
	there, here := map[string]bool{}, map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, root := range []string{".", "../../plan", "../../engine", "../../test/registry"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, found := range declared.FindAllStringSubmatch(string(source), -1) {
				there[found[1]] = true
				here[found[1]] = here[found[1]] || root == "."
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	lines := 0
	for line := range strings.Lines(rules) {
		tests := named.FindAllStringSubmatch(line, -1)
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| rule") {
			lines++
			if len(tests) == 0 {
				t.Errorf("no test is named: %s", line)
			}
		}
		for _, test := range tests {
			if !there[test[1]] {
				t.Errorf("there is no %s: %s", test[1], line)
			}
			delete(here, test[1])
		}
	}
	for test, own := range here {
		if own {
			t.Errorf("%s is not on the page", test)
		}
	}
	if lines < 35 {
		t.Errorf("%d lines only", lines)
	}
}
