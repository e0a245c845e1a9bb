package compose

import (
	"slices"
	"strings"
	"testing"
)

// specificationKeys are all keys of the Compose Specification's schema.
func specificationKeys() []string {
	var keys []string
	specification().walk("", func(path string, _ *keyNode) { keys = append(keys, path) })
	return keys
}

func TestEveryKeyHasOneTreatment(t *testing.T) {
	keys := specificationKeys()
	if len(keys) < 300 {
		t.Fatalf("the schema has %d keys only: it is not read right", len(keys))
	}
	for _, key := range keys {
		if _, ok := rowOf(key); !ok {
			t.Errorf("the key %s of the specification has no row", key)
		}
	}
	for key, r := range table() {
		if !slices.Contains(keys, key) {
			t.Errorf("the row %s is for no key of the specification", key)
		}
		for other, o := range table() {
			if o.whole && strings.HasPrefix(key, other+".") {
				t.Errorf("%s has a row of its own below %s, which is for all below it", key, other)
			}
		}
		if r.means == "" || (r.treatment != honored && r.instead == "") {
			t.Errorf("the row %s does not say what the key means here, or what to write instead", key)
		}
		if r.whole && r.treatment == honored && !r.holds {
			t.Errorf("the row %s is honored, and hides the keys below it", key)
		}
	}
	for key := range forms {
		if !slices.Contains(keys, key) && !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, key+".") }) && !strings.HasSuffix(key, ".*") {
			t.Errorf("the form %s is for no key of the specification", key)
		}
	}
}
