package maru_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/marucloud/maru"
)

// TestRoutesOfLaterVersions: what a route says beyond what is known is neither lost nor passed over.
func TestRoutesOfLaterVersions(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		known maru.Route
	}{
		"policy":      {`{"host":"a.test","path":"/x","policy":{"auth":{"kind":"basic"},"geofence":{"only":["kr"]}}}`, maru.Route{Host: "a.test", Path: "/x", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: "basic"}}}},
		"part of one": {`{"host":"a.test","policy":{"auth":{"kind":"basic","twice":true}}}`, maru.Route{Host: "a.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: "basic"}}}},
		"TLS":         {`{"host":"a.test","tls":{"pinned":"abc"}}`, maru.Route{Host: "a.test", TLS: &maru.RouteTLS{}}},
		"match":       {`{"host":"a.test","match":{"moon":"full"}}`, maru.Route{Host: "a.test", Match: &maru.RouteMatch{}}},
		"other kind":  {`{"host":"a.test","path":"/x","exact":true,"policy":"strict"}`, maru.Route{Host: "a.test", Path: "/x", Exact: true}},
	} {
		var r maru.Route
		if err := json.Unmarshal([]byte(c.text), &r); err != nil {
			t.Fatal(name, err)
		}
		if err := r.Understood(); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if again := maru.Raw(r); string(again) != c.text {
			t.Errorf("%s: written as %s", name, again)
		}
		r.Unknown = nil
		if !reflect.DeepEqual(r, c.known) {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
	var r maru.Route
	text := `{"host":"a.test","policy":{"maxBody":5}}`
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Understood() != nil || r.Unknown != nil || string(maru.Raw(r)) != text {
		t.Errorf("%v %s", err, maru.Raw(r))
	}
	if json.Unmarshal([]byte(`{"host":5}`), &r) == nil {
		t.Error("a route without a host that can be read")
	}
}
