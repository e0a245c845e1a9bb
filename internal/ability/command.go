package ability

import (
	"regexp"
	"strings"

	"github.com/marucloud/maru"
)

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// Command is what an administrator types to grant just the app in the scope what it needs. Parts of
// the scope that are empty match all.
func Command(scope maru.Scope, needs ...string) string {
	words := append([]string{"maru", "grant"}, needs...)
	for _, part := range []struct{ flag, value string }{
		{"--project", scope.Project}, {"--env", scope.Environment}, {"--app", scope.App},
	} {
		if part.value != "" {
			words = append(words, part.flag, part.value)
		}
	}
	for i, word := range words {
		if !plainWord.MatchString(word) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
