package buildtest_test

import (
	"testing"

	"github.com/marucloud/maru/delivery/build/buildtest"
)

// TestTwice starts one containerd after the other.
func TestTwice(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) { buildtest.Containerd(t) })
	}
}
