package sockets

import (
	"os"
	"testing"
)

func TestFromParentTellsWhoItIs(t *testing.T) {
	for mark, supervised := range map[string]bool{"": false, "proxy:/run/maru": true} {
		t.Setenv(ProcessMark, mark)
		parent, err := FromParent()
		if err != nil || parent.Supervised != supervised {
			t.Errorf("with the mark %q: supervised %v, %v", mark, parent.Supervised, err)
		}
		if _, left := os.LookupEnv(ProcessMark); left {
			t.Error("children would be taken for this process")
		}
	}
}
