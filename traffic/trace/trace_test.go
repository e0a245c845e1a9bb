package trace

import (
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for value, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":                                 id,
		"cc-" + id + "-b7ad6b7169203331-01-later":                           id,
		"00-" + id + "-b7ad6b7169203331-01-":                                "",
		"ff-" + id + "-b7ad6b7169203331-01":                                 "",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01":            "",
		"00-" + id + "-0000000000000000-01":                                 "",
		"00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01":                "",
		"00-" + id + "-b7ad6b7169203331":                                    "",
		"":                                                                  "",
		"cc-" + id + "-b7ad6b7169203331-01later":                            "",
		"00-" + id[:31] + "g-b7ad6b7169203331-01":                           "",
		"0--" + id + "-b7ad6b7169203331-01":                                 "",
		"00-" + id + "-b7ad6b7169203331-0x":                                 "",
		"00 " + id + " b7ad6b7169203331 01":                                 "",
		"00-" + id + "-b7ad6b7169203331-01" + strings.Repeat("-long", 1000): "",
	} {
		if got := ID(value); got != want {
			t.Errorf("%.60q: %q", value, got)
		}
	}
	for range 100 {
		parent := string(Append(nil))
		if id := ID(parent); id == "" || parent[3:35] != id {
			t.Fatal(parent)
		}
	}
}

func FuzzID(f *testing.F) {
	f.Add(string(Append(nil)))
	f.Add("00-")
	f.Fuzz(func(t *testing.T, value string) {
		if id := ID(value); id != "" && (len(id) != 32 || !lowerHex(id)) {
			t.Fatal(id)
		}
	})
}
