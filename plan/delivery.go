package plan

import (
	"strings"

	"github.com/marucloud/maru"
)

// DeliveryOf is what is kept of a rollout. Environments are those of the app's file.
func DeliveryOf(r maru.Rollout, environments map[string]maru.EnvironmentPolicy) maru.Delivery {
	return maru.Delivery{
		Scope: r.Scope, Number: r.Number, Phase: r.Phase, Cause: r.Cause, Of: r.Of, Origin: r.Origin, Reason: r.Reason, By: r.By,
		Preview: ofBranch(r.Scope.Environment, environments),
		Started: r.Started, Exposed: r.Exposed, Served: r.Served, Ended: r.Ended,
	}
}

// ofBranch tells whether an environment is one of those that a pattern of branches has for each of them.
func ofBranch(environment string, environments map[string]maru.EnvironmentPolicy) bool {
	for name, policy := range environments {
		if strings.Contains(policy.Branch, "*") && strings.HasPrefix(environment, name+"-") {
			return true
		}
	}
	return false
}
