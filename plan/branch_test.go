package plan

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

func TestDeploys(t *testing.T) {
	type environments = map[string]maru.EnvironmentPolicy
	file := environments{
		"production": {Branch: "main", Deploy: "manual"},
		"staging":    {Branch: "release/*"},
		"preview":    {Branch: "*", Deploy: "auto"},
		"hotfix":     {Branch: "release/1.0"},
	}
	for _, c := range []struct {
		branch, standard string
		environments     environments
		want             string
		manual           bool
	}{
		{"main", "main", nil, "production", false},
		{"fix", "main", nil, "", false},
		{"master", "master", nil, "production", false},
		{"main", "master", nil, "", false},
		{"main", "main", file, "production", true},
		{"release/2.0", "main", file, "staging-release-2-0-e7a8d5b4", false},
		{"release/1.0", "main", file, "hotfix", false},
		{"fix", "main", file, "preview-fix", false},
		{"fix", "main", environments{"preview": {Branch: "feature-*-x"}}, "", false},
		{"feature-a-x", "main", environments{"preview": {Branch: "feature-*-x"}}, "preview-feature-a-x", false},
		{"main", "main", environments{"staging": {Branch: "develop"}}, "production", false},
		{"main", "main", environments{"production": {Branch: "live"}}, "", false},
		{"live", "main", environments{"production": {Branch: "live"}}, "production", false},
		{"main", "main", environments{"production": {Deploy: "manual"}}, "production", true},
		{"main", "main", environments{"staging": {Branch: "main"}}, "staging", false},
	} {
		target := Deploys(c.branch, c.standard, c.environments)
		got, manual := target.Environment, target.Manual()
		if i := strings.LastIndexByte(c.want, '-'); strings.HasPrefix(c.want, "staging-release") {
			got, c.want = got[:min(len(got), i)], c.want[:i] // what follows is a digest
		}
		if got != c.want || manual != c.manual {
			t.Errorf("%s of %v: %q %v, want %q %v", c.branch, c.environments, got, manual, c.want, c.manual)
		}
	}
}

func TestEnvironmentsOfBranchesHaveNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		branch := rapid.StringMatching(`[a-zA-Z0-9_./ü-]{1,100}`).Draw(t, "branch")
		other := rapid.StringMatching(`[a-zA-Z0-9_./ü-]{1,100}`).Draw(t, "other")
		environments := map[string]maru.EnvironmentPolicy{"preview": {Branch: "*", Domain: "*.example.com"}}
		target := Deploys(branch, "main", environments)
		name := target.Environment
		if err := maru.CheckName("environment", name); err != nil {
			t.Fatal(err)
		}
		if second := Deploys(other, "main", environments); branch != other && (second.Environment == name || second.Domain == target.Domain) {
			t.Fatalf("%q and %q are both deployed to %s", branch, other, name)
		}
	})
}

func TestProtected(t *testing.T) {
	environments := map[string]maru.EnvironmentPolicy{"production": {Branch: "live"}, "preview": {Branch: "*"}}
	for branch, want := range map[string]bool{"main": true, "live": true, "fix": false, "*": false, "release/1": true} {
		if got := Protected(branch, "main", environments, []string{"release/*"}); got != want {
			t.Errorf("%s: %v", branch, got)
		}
	}
}
