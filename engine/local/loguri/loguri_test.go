package loguri_test

import (
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/loguri"
)

func TestRoundTrip(t *testing.T) {
	for _, dir := range []string{"/var/lib/maru/logs/a/b", "/with space/%41/ü?#"} {
		address := loguri.Format(dir, 3)
		if !loguri.Is(address) {
			t.Errorf("Is(%q) is false", address)
		}
		got, attempt, err := loguri.Parse(address)
		if err != nil || got != dir || attempt != 3 {
			t.Errorf("Parse(%q) = %q, %d, %v", address, got, attempt, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("maru-log:///var/log?attempt=1")
	f.Add("maru-log://host/x?attempt=1")
	f.Fuzz(func(t *testing.T, address string) {
		dir, attempt, err := loguri.Parse(address)
		if err != nil {
			if maru.KindOf(err) != maru.Invalid {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		again, n, err := loguri.Parse(loguri.Format(dir, attempt))
		if err != nil || again != dir || n != attempt {
			t.Fatalf("%q: %q %d, then %q %d %v", address, dir, attempt, again, n, err)
		}
	})
}
