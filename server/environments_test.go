package server

import (
	"fmt"
	"testing"

	"github.com/marucloud/maru"
)

// TestInForce: what runs is what a rollout deployed that succeeded, whatever followed from it.
func TestInForce(t *testing.T) {
	rollout := func(number int, cause string, of int, phase maru.RolloutPhase) maru.Rollout {
		return maru.Rollout{Number: number, Cause: cause, Of: of, Phase: phase}
	}
	first := []maru.Rollout{rollout(2, "deploy", 0, maru.Succeeded), rollout(1, "deploy", 0, maru.Succeeded)}
	for _, c := range []struct {
		newer []maru.Rollout
		want  string
	}{
		{nil, "[2]"},
		{[]maru.Rollout{rollout(3, "deploy", 0, maru.RolledBackPhase)}, "[2]"},
		{[]maru.Rollout{rollout(3, "rollback", 1, maru.Succeeded)}, "[3 1]"},
		{[]maru.Rollout{rollout(4, "restart", 0, maru.Succeeded), rollout(3, "rollback", 1, maru.Succeeded)}, "[4 3 1]"},
		{[]maru.Rollout{rollout(3, "restart", 0, maru.Succeeded)}, "[3 2]"},
	} {
		if got := fmt.Sprint(inForce(append(c.newer, first...))); got != c.want {
			t.Errorf("%v: %s, want %s", c.newer, got, c.want)
		}
	}
}
