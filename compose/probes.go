package compose

import (
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// The defaults of a compose healthcheck.
const (
	checkInterval = 30 * time.Second
	checkTimeout  = 30 * time.Second
	checkRetries  = 3
)

// probes reads healthcheck and x-maru.health.
func (s *service) probes() {
	if probe := healthcheck(s.in.HealthCheck); probe != nil {
		live := *probe
		s.out.Container.Probes = maru.Probes{Ready: probe, Live: &live}
	}
	health := s.keys.health
	if health == nil {
		return
	}
	probe := health.probe
	port := s.port(health.port, s.path(extensionKey, "health", "port"))
	switch {
	case probe.HTTP != nil:
		probe.HTTP.Port = port
	case probe.GRPC != nil:
		probe.GRPC.Port = port
	case len(probe.Exec) == 0:
		if probe.TCP = port; port == 0 {
			probe.TCP = s.firstPort()
		}
		if probe.TCP == 0 {
			s.fail(maru.Invalid, "there is no port to ask", "write health: {tcp: PORT}", extensionKey, "health")
		}
	}
	if port != 0 {
		s.expose(maru.Port{Port: port, Protocol: maru.TCP})
	}
	s.out.Container.Probes.Ready = &probe
	if health.live {
		live := probe
		s.out.Container.Probes.Live = &live
	}
}

func (s *service) firstPort() uint16 {
	for _, p := range s.out.Publish {
		if p.Target.Protocol == maru.TCP {
			return p.Target.Port
		}
	}
	for _, p := range s.out.Expose {
		if p.Protocol == maru.TCP {
			return p.Port
		}
	}
	return 0
}

// healthcheck gives the probe for a compose healthcheck. Maru asks often until the first success, where
// Docker waits an interval before each question. So that it gives up no sooner than Docker calls a
// container unhealthy, the start period is longer by the time that Docker's retries take.
func healthcheck(in *types.HealthCheckConfig) *maru.Probe {
	if in == nil || in.Disable || len(in.Test) < 2 || in.Test[0] == "NONE" {
		return nil
	}
	probe := &maru.Probe{
		Exec:          in.Test[1:],
		Interval:      durationOr(in.Interval, checkInterval),
		Timeout:       durationOr(in.Timeout, checkTimeout),
		Failures:      checkRetries,
		StartInterval: durationOr(in.StartInterval, 0),
	}
	if in.Test[0] == "CMD-SHELL" {
		probe.Exec = []string{"/bin/sh", "-c", in.Test[1]}
	}
	if in.Retries != nil && *in.Retries > 0 {
		probe.Failures = int(min(*in.Retries, 1_000_000))
	}
	probe.StartPeriod = durationOr(in.StartPeriod, 0) + time.Duration(min(probe.Failures, 1000))*min(probe.Interval, 24*time.Hour)
	return probe
}

// durationOr gives the duration, or another for none and for zero.
func durationOr(d *types.Duration, otherwise time.Duration) time.Duration {
	if d == nil || *d <= 0 {
		return otherwise
	}
	return time.Duration(*d)
}
