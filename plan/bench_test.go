package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// BenchmarkApp plans for an app of ten services at rest, and in the midst of a rollout.
func BenchmarkApp(b *testing.B) {
	build := func(version int) maru.App {
		services := map[string]maru.Service{}
		for k := range 10 {
			services[fmt.Sprintf("s%d", k)] = web(fmt.Sprintf("web:%d", version), func(s *maru.Service) { s.Replicas = 10 })
		}
		return app(services)
	}
	s := newSim(b)
	s.deploy(build(1))
	s.settle(time.Hour)
	rest := s.observe()
	b.Run("rest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			plan.App(s.now, rest)
		}
	})
	s.deploy(build(2))
	s.plan()
	rollout := s.observe()
	b.Run("rollout", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			plan.App(s.now, rollout)
		}
	})
	b.Run("deploy", func(b *testing.B) {
		next := deployment(build(3))
		for b.Loop() {
			if _, err := plan.Deploy(s.now, rest, next); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTraffic is the cost of one service's traffic, with ten endpoints.
func BenchmarkTraffic(b *testing.B) {
	s := newSim(b)
	s.deploy(app(map[string]maru.Service{"web": web("web:1", func(s *maru.Service) { s.Replicas = 10 })}))
	s.settle(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		s.traffic("web")
	}
}
