package compose

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// lifecycle decides whether the service is a job, how many instances it has, and when they are started
// again.
func (s *service) lifecycle() {
	s.out.Kind, s.out.Replicas = maru.LongRunning, s.in.GetScale()
	if s.keys.min > 0 && s.in.Scale == nil && (s.in.Deploy == nil || s.in.Deploy.Replicas == nil) {
		s.out.Replicas = s.keys.min
	}
	if s.out.Replicas < 0 || s.out.Replicas > 10_000 {
		s.fail(maru.Invalid, fmt.Sprintf("%d is not a number of instances", s.out.Replicas), "", s.replicasKey()...)
		s.out.Replicas = 1
	}
	restart, said := s.restart()
	s.out.Container.Restart = restart
	mode := ""
	if s.in.Deploy != nil {
		mode = s.in.Deploy.Mode
	}
	waiter := s.waitedFor()
	switch mode {
	case "", "replicated":
		if waiter == "" {
			break
		}
		if said && restart.Policy == maru.RestartAlways {
			s.fail(maru.Invalid, fmt.Sprintf("the service %s waits until it completed, and it is started again whenever it ends", waiter), `write restart: "no", or on-failure`, s.restartKey()...)
		}
		s.out.Kind = maru.Job
	case "global":
		s.out.Replicas = min(s.out.Replicas, 1)
	case "replicated-job", "global-job":
		s.out.Kind = maru.Job
	default:
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a mode", mode), "it can be replicated, global, replicated-job or global-job", "deploy", "mode")
	}
	if s.out.Kind == maru.Job {
		s.out.Container.Probes.Live = nil // it lives until it is done
	}
	if s.out.Kind == maru.Job && (!said || restart.Policy == maru.RestartAlways) {
		s.out.Container.Restart = maru.Restart{Policy: maru.RestartNever}
	}
}

// replicasKey gives the path of what says how many instances there are.
func (s *service) replicasKey() []string {
	if s.in.Scale != nil {
		return []string{"scale"}
	}
	return []string{"deploy", "replicas"}
}

// waitedFor gives a service that waits until this one completed, or "".
func (s *service) waitedFor() string {
	for _, name := range sortedKeys(s.l.proj.Services) {
		if d, ok := s.l.proj.Services[name].DependsOn[s.name]; ok && d.Condition == string(maru.Completed) {
			return name
		}
	}
	return ""
}

func (s *service) restartKey() []string {
	if s.in.Deploy != nil && s.in.Deploy.RestartPolicy != nil {
		return []string{"deploy", "restart_policy"}
	}
	return []string{"restart"}
}

// restart gives the restart policy, and whether the file says it. Without one, what others can call is
// kept running. What nobody calls may be meant to end: it is started again only when it failed.
func (s *service) restart() (maru.Restart, bool) {
	if s.in.Deploy != nil && s.in.Deploy.RestartPolicy != nil {
		return s.restartPolicy(), true
	}
	policy, attempts, _ := strings.Cut(s.in.Restart, ":")
	switch policy {
	case "":
		if len(s.out.Publish)+len(s.out.Expose)+len(s.out.Routes) > 0 || s.keys.health != nil {
			return maru.Restart{Policy: maru.RestartAlways}, false
		}
		return maru.Restart{Policy: maru.RestartOnFailure}, false
	case "no", "false":
		return maru.Restart{Policy: maru.RestartNever}, true
	case "always", "unless-stopped":
		return maru.Restart{Policy: maru.RestartAlways}, true
	case "on-failure":
		restart := maru.Restart{Policy: maru.RestartOnFailure}
		if attempts != "" {
			count, err := strconv.Atoi(attempts)
			if err != nil || count < 0 {
				s.fail(maru.Invalid, fmt.Sprintf("%q is not a number of restarts", attempts), "write on-failure:3", "restart")
			}
			restart.Attempts = count
		}
		return restart, true
	}
	s.fail(maru.Invalid, fmt.Sprintf("%q is not a restart policy", s.in.Restart),
		didYouMeanOr(policy, []string{"no", "always", "on-failure", "unless-stopped"}), "restart")
	return maru.Restart{Policy: maru.RestartAlways}, true
}

func didYouMeanOr(name string, known []string) string {
	if hint := didYouMean(name, known); hint != "" {
		return hint
	}
	return "it can be " + oneOf(known)
}

func (s *service) restartPolicy() maru.Restart {
	in := s.in.Deploy.RestartPolicy
	restart := maru.Restart{Delay: durationOr(in.Delay, 0), Window: durationOr(in.Window, 0)}
	switch in.Condition {
	case "", "any":
		restart.Policy = maru.RestartAlways
	case "on-failure":
		restart.Policy = maru.RestartOnFailure
	case "none":
		restart.Policy = maru.RestartNever
	default:
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a condition", in.Condition),
			didYouMeanOr(in.Condition, []string{"none", "on-failure", "any"}), "deploy", "restart_policy", "condition")
	}
	if in.MaxAttempts != nil {
		restart.Attempts = int(min(*in.MaxAttempts, 1_000_000))
	}
	return restart
}

// steps refuses one-offs where nothing of theirs could run.
func (s *service) steps() {
	for key, step := range map[string]*maru.ReleaseStep{"seed": s.out.Seed, "after": s.out.After} {
		switch {
		case step == nil:
		case s.out.Kind == maru.Job:
			s.fail(maru.Invalid, "a job runs to its end itself", "put it into a service that the job comes before or after", extensionKey, key)
		case key == "after" && len(s.writable()) > 0:
			s.fail(maru.Invalid, "the service holds a volume that it writes to, and a volume has one holder at a time",
				"put the step into a service without one, or write volumes: [NAME:PATH:ro]", extensionKey, key)
		}
	}
}

// update decides how the service moves from one release to the next.
func (s *service) update() {
	u := maru.Update{Strategy: maru.Rolling, Deadline: s.keys.rollout.deadline, Parallel: s.keys.rollout.parallel, Shift: s.keys.rollout.shift}
	startFirst, failureAction := false, ""
	if s.in.Deploy != nil && s.in.Deploy.UpdateConfig != nil {
		in := s.in.Deploy.UpdateConfig
		u.Delay, u.Monitor = time.Duration(in.Delay), time.Duration(in.Monitor)
		u.StopFirst = in.Order == "stop-first"
		startFirst, failureAction = in.Order == "start-first", in.FailureAction
		if in.Parallelism != nil && u.Parallel == 0 {
			u.Parallel = int(min(*in.Parallelism, 10_000))
		}
		switch in.FailureAction {
		case "", "rollback", "continue":
		case "pause":
			u.NoRollback = true
		default:
			s.fail(maru.Invalid, fmt.Sprintf("%q is not an action", in.FailureAction),
				didYouMeanOr(in.FailureAction, []string{"rollback", "pause", "continue"}), "deploy", "update_config", "failure_action")
		}
	}
	switch {
	case s.keys.rollout.strategy != "":
		u.Strategy = s.keys.rollout.strategy
	case len(s.writable()) > 0 && !startFirst:
		u.Strategy = maru.Recreate
	}
	if u.Strategy == maru.Recreate {
		u.StopFirst = false // it does so anyway
	}
	if u.Shift != nil {
		s.checkShift(failureAction, u.StopFirst)
	}
	s.out.Update = u
	s.share(s.keys.rollout.strategy == maru.Rolling || startFirst)
}
