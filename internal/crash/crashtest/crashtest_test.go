package crashtest

import (
	"slices"
	"testing"
)

func TestPoints(t *testing.T) {
	all := Points(t, "")
	for _, name := range []string{"atomicfile.rename.before", "atomicfile.rename.after"} {
		if !slices.Contains(all, name) {
			t.Errorf("%q was not found in %q", name, all)
		}
	}
	if few := Points(t, "internal/atomicfile"); len(few) == 0 || len(few) > len(all) {
		t.Errorf("below internal/atomicfile: %q", few)
	}
}
