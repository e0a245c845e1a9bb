package access

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestRecorded(t *testing.T) {
	form := regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{9}Z-[a-z0-9]{8}$`)
	for prefix, scope := range map[string]maru.Scope{
		"default/production/shop/": {Project: "default", Environment: "production", App: "shop"},
		"default///":               {Project: "default"},
		"///":                      {},
	} {
		change := Recorded("ann", scope, "grant-added", "bind:/srv")
		var e maru.Event
		if err := json.Unmarshal(change.Data, &e); err != nil {
			t.Fatal(err)
		}
		if e.By != "ann" || e.Type != "grant-added" || e.Message != "bind:/srv" || e.Scope != scope || time.Since(e.Time) > time.Minute {
			t.Errorf("event %+v", e)
		}
		name := change.Key.Name
		if change.Key.Kind != "event" || len(name) < len(prefix) || name[:len(prefix)] != prefix || !form.MatchString(name[len(prefix):]) {
			t.Errorf("named %+v", change.Key)
		}
	}
}
