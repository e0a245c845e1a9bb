package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Deploys tells where a branch is deployed; none: the environment is "". Environments are those of the app's
// file on its default branch. One names its branch, or a pattern with stars. Of several the one with the longest
// pattern has the branch, then the first by name. Without a branch of its own, production has the default branch.
//
// An environment with a pattern stands for one of each branch: preview with "*" has the branch fix/a in an
// environment whose name begins with preview-fix-a.
func Deploys(branch, standard string, environments map[string]maru.EnvironmentPolicy) Target {
	found, best := "", ""
	for _, name := range slices.Sorted(maps.Keys(environments)) {
		pattern := environments[name].Branch
		if pattern == "" && name == maru.DefaultEnvironment {
			pattern = standard
		}
		if !matches(pattern, branch) || found != "" && weight(pattern) <= weight(best) {
			continue
		}
		found, best = name, pattern
	}
	if _, spoken := environments[maru.DefaultEnvironment]; found == "" && !spoken && branch == standard {
		found = maru.DefaultEnvironment
	}
	switch {
	case found == "":
		return Target{}
	case strings.Contains(best, "*"):
		return preview(found, branch, environments)
	}
	return Entry(found, environments)
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

// Follows tells whether a branch fits one of the patterns; none: it does.
func Follows(branch string, patterns []string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, branch) })
}

// Protected tells whether a branch can't be rewound or deleted by a push: the default branch, those that an
// environment names without a star, and those that fit a pattern which was set on the server.
func Protected(branch, standard string, environments map[string]maru.EnvironmentPolicy, patterns []string) bool {
	if branch == standard {
		return true
	}
	for _, e := range environments {
		if e.Branch == branch && !strings.Contains(e.Branch, "*") {
			return true
		}
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, branch) })
}
