package traffic_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// TestRouteOfALaterVersion: a route with a policy that this proxy does not know is not served, which it
// tells, and neither is it after a restart from the state that was kept.
func TestRouteOfALaterVersion(t *testing.T) {
	folder := t.TempDir()
	s := web(startInstance(t, "a", say("a")))
	s.Routes = []maru.Route{{Host: "open.test"}}
	var told map[string]any
	if err := json.Unmarshal(maru.Raw(s), &told); err != nil {
		t.Fatal(err)
	}
	told["routes"] = append(told["routes"].([]any), map[string]any{"host": "guarded.test", "policy": map[string]any{"geofence": "kr"}},
		map[string]any{"host": "match.test"}, map[string]any{"host": "match.test", "match": map[string]any{"methods": []string{"GET"}}},
		map[string]any{"host": "match.test", "match": map[string]any{"moon": "full"}})
	if err := json.Unmarshal(maru.Raw(told), &s); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "traffic.sock")
	server := startControl(t, socket)
	server.Set(s)
	server.Sync()
	check := func(w *world) {
		t.Helper()
		eventually(t, "told", func() bool { res, _ := w.spell("GET", "open.test", "/"); return res.StatusCode == 200 })
		for _, host := range []string{"guarded.test", "match.test"} {
			if res, body := w.spell("GET", host, "/"); res.StatusCode != 503 || !strings.Contains(body, "later version") {
				t.Errorf("%s: %s %s", host, res.Status, body)
			}
		}
		problems := w.Report().Problems
		if len(problems) != 2 || !strings.Contains(problems[0].Why, `unknown field "geofence"`) {
			t.Errorf("%+v", problems)
		}
	}
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Server, cfg.State = socket, folder })
	check(w)
	w.stop()
	server.stop()
	check(newWorld(t, func(cfg *traffic.Config) { cfg.State = folder }))
}
