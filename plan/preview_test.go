package plan

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

func TestPreviewsHaveNamesAndDomains(t *testing.T) {
	environments := map[string]maru.EnvironmentPolicy{
		"production":    {Branch: "main"},
		"preview":       {Branch: "*", Domain: "*.preview.example.com"},
		"preview-extra": {Branch: "extra/*", Domain: "extra.example.com"},
		"preview-taken": {Branch: "taken"},
		"plain":         {Branch: "plain-*"},
	}
	for branch, want := range map[string]string{
		"fix-1":                  "preview-fix-1 fix-1.preview.example.com",
		"Fix-1":                  "preview-fix-1-… fix-1-….preview.example.com",
		"fix/a":                  "preview-fix-a-… fix-a-….preview.example.com",
		"-":                      "preview-… b-….preview.example.com",
		"ü":                      "preview-… b-….preview.example.com",
		"xn--fix":                "preview-xn--fix b-….preview.example.com",
		"extra-1":                "preview-cf0d6635… extra-1.preview.example.com", // preview-extra could have a better one for its branch 1
		"extra/1":                "preview-extra-extra-1-… extra-1-….extra.example.com",
		"taken":                  "preview-taken ",
		strings.Repeat("a", 56):  "preview-" + strings.Repeat("a", 46) + "-… " + strings.Repeat("a", 56) + ".preview.example.com",
		strings.Repeat("a", 200): "preview-" + strings.Repeat("a", 46) + "-… " + strings.Repeat("a", 54) + "-….preview.example.com",
		"plain-1":                "plain-plain-1 ",
	} {
		target := Deploys(branch, "main", environments)
		got := target.Environment + " " + target.Domain
		digest := digestOf(branch)
		if got = strings.ReplaceAll(got, digest, "…"); got != want {
			t.Errorf("%s: %s, want %s", branch, got, want)
		}
	}
}

func TestPlace(t *testing.T) {
	app := func(production string, hosts ...string) maru.App {
		a := maru.App{Services: map[string]maru.Service{}, Environments: map[string]maru.EnvironmentPolicy{"production": {Domain: production}}}
		for i, host := range hosts {
			a.Services[fmt.Sprint(i)] = maru.Service{Routes: []maru.Route{{Host: host}}, Publish: []maru.PublishedPort{{HostPort: 80}}}
		}
		return a
	}
	const at = "fix.example.org"
	for _, c := range []struct {
		production string
		hosts      []string
		want       []string
	}{
		{"", []string{"shop.example.com"}, []string{at}},
		{"", []string{""}, []string{at}},
		{"", []string{"Shop.example.com.", "api.shop.example.com", "*.shop.example.com"}, []string{at, "api." + at, "*." + at}},
		{"", []string{"a.example.com", "b.example.com"}, []string{"a-example-com." + at, "b-example-com." + at}},
		{"a.example.com", []string{"a.example.com", "b.example.com"}, []string{at, "b-example-com." + at}},
		{"", []string{at, "api." + at}, []string{at, "api." + at}},
		{"a.example.com", []string{"*.b.example.com"}, []string{"*.b-example-com." + at}},
	} {
		placed := Place(app(c.production, c.hosts...), at, true)
		for i, want := range c.want {
			s := placed.Services[fmt.Sprint(i)]
			if s.Routes[0].Host != want || s.Publish[0].HostPort != 0 {
				t.Errorf("%v: %s at %d, want %s", c.hosts, s.Routes[0].Host, s.Publish[0].HostPort, want)
			}
		}
	}
	before := app("", "shop.example.com")
	if placed := Place(before, "", false); placed.Services["0"].Routes[0].Host != "shop.example.com" || placed.Services["0"].Publish[0].HostPort != 80 {
		t.Errorf("without a domain: %+v", placed)
	}
	Place(before, at, true)
	if s := before.Services["0"]; s.Routes[0].Host != "shop.example.com" || s.Publish[0].HostPort != 80 {
		t.Errorf("the app itself changed: %+v", s)
	}
}

// TestPlacedHostsAreBelowTheDomain: whatever a branch writes, its preview can't have a host of another.
func TestPlacedHostsAreBelowTheDomain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfN(rapid.StringMatching(`(\*\.)?([a-z0-9-]{1,20}\.){0,5}[a-z0-9-]{1,20}|`), 1, 4).Draw(t, "hosts")
		a := maru.App{Services: map[string]maru.Service{}}
		for i, host := range hosts {
			a.Services[fmt.Sprint(i)] = maru.Service{Routes: []maru.Route{{Host: host}}}
		}
		for name, s := range Place(a, "fix.example.org", true).Services {
			if host := strings.TrimPrefix(s.Routes[0].Host, "*."); host != "fix.example.org" && !strings.HasSuffix(host, ".fix.example.org") {
				t.Fatalf("%s of %s becomes %s", name, hosts, host)
			}
		}
	})
}

func TestClonesNeedConsent(t *testing.T) {
	environments := map[string]maru.EnvironmentPolicy{
		"production": {Branch: "main"}, "staging": {Branch: "develop", Share: []string{"preview"}},
		"preview": {Branch: "*", Clone: "staging"}, "other": {Branch: "other/*", Clone: "production"},
	}
	if got := Deploys("fix", "main", environments).Clone(environments); got != "staging" {
		t.Errorf("with consent: %q", got)
	}
	if got := Deploys("other/1", "main", environments).Clone(environments); got != "" {
		t.Errorf("without: %q", got)
	}
}
