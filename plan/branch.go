package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Deploys tells to which environment a branch is deployed, and whether that waits for approval; none: "".
// Environments are those of the app's file on its default branch. One names its branch, or a pattern with
// stars. Of several the one with the longest pattern has the branch, then the first by name. Without
// a branch of its own, production has the default branch.
//
// An environment with a pattern stands for one of each branch: preview with "*" has the branch fix/a in the
// environment preview-fix-a.
func Deploys(branch, standard string, environments map[string]maru.EnvironmentPolicy) (environment string, manual bool) {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(environments)) {
		pattern := environments[name].Branch
		if pattern == "" && name == maru.DefaultEnvironment {
			pattern = standard
		}
		if !matches(pattern, branch) || environment != "" && weight(pattern) <= weight(best) {
			continue
		}
		environment, best, manual = name, pattern, environments[name].Deploy == "manual"
	}
	if strings.Contains(best, "*") {
		environment = perBranch(environment, branch)
	}
	if _, spoken := environments[maru.DefaultEnvironment]; environment == "" && !spoken && branch == standard {
		environment = maru.DefaultEnvironment
	}
	return environment, manual
}

// weight is how much of a pattern is no star. One without stars outweighs all others.
func weight(pattern string) int {
	if !strings.Contains(pattern, "*") {
		return len(pattern) + 1<<20
	}
	return len(pattern) - strings.Count(pattern, "*")
}

// matches tells whether the branch has the pattern, whose stars stand for anything.
func matches(pattern, branch string) bool {
	if pattern == "" {
		return false
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == branch
	}
	rest, ok := strings.CutPrefix(branch, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// perBranch names the environment of one branch. Branches whose names have to be changed for that are kept
// apart by a digest.
func perBranch(environment, branch string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, branch)
	name = environment + "-" + name
	if plain := environment + "-" + branch; name == plain && maru.CheckName("environment", name) == nil {
		return name
	}
	sum := sha256.Sum256([]byte(branch))
	name = strings.TrimRight(name[:min(len(name), 54)], "-")
	return name + "-" + hex.EncodeToString(sum[:4])
}

// Protected tells whether a branch can't be rewound or deleted by a push: the default branch, and those that
// an environment names without a star.
func Protected(branch, standard string, environments map[string]maru.EnvironmentPolicy) bool {
	if branch == standard {
		return true
	}
	for _, e := range environments {
		if e.Branch == branch && !strings.Contains(e.Branch, "*") {
			return true
		}
	}
	return false
}
