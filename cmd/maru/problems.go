package main

import (
	"context"
	"sync"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
)

// tellProblems records what a data plane could not do, such as open a published port that another
// program has, once each time that it comes up.
func (c *controlPlane) tellProblems(ctx context.Context) func(maru.TrafficReport) {
	var mu sync.Mutex
	known := map[maru.TrafficProblem]bool{}
	return func(report maru.TrafficReport) {
		mu.Lock()
		defer mu.Unlock()
		now := map[maru.TrafficProblem]bool{}
		for _, p := range report.Problems {
			now[p] = true
			if known[p] {
				continue
			}
			c.log.Warn("a data plane has a problem", "service", p.Service, "what", p.What, "why", p.Why)
			change := access.Recorded("maru", p.Service.Scope, "traffic-problem", p.Service.Service+": "+p.What+": "+p.Why)
			go func() {
				if _, err := c.store.Commit(ctx, change); err != nil && ctx.Err() == nil {
					c.log.Warn("could not record a data plane's problem", "error", err)
				}
			}()
		}
		known = now
	}
}
