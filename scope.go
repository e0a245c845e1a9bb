package maru

import (
	"fmt"
	"regexp"
	"strings"
)

// Names used when the user gives none.
const (
	DefaultProject     = "default"
	DefaultEnvironment = "production"
)

// JobsProject is the project of the workloads that run the jobs of pipelines. No app can be in it.
const JobsProject = "maru-jobs"

// Scope says where a name lives. Two apps of the same name in two environments share nothing.
type Scope struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	App         string `json:"app"`
}

// String gives "project/environment/app".
func (s Scope) String() string { return s.Project + "/" + s.Environment + "/" + s.App }

// Service names a service inside the scope.
func (s Scope) Service(name string) ServiceID { return ServiceID{Scope: s, Service: name} }

// MarshalText gives the form of String.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the form of String.
func (s *Scope) UnmarshalText(text []byte) error {
	parts, err := splitPath(string(text), 3)
	if err != nil {
		return err
	}
	*s = Scope{parts[0], parts[1], parts[2]}
	return nil
}

// ServiceID names one service of one app in one environment.
type ServiceID struct {
	Scope
	Service string
}

// String gives "project/environment/app/service".
func (s ServiceID) String() string { return s.Scope.String() + "/" + s.Service }

// Workload names a workload of the service: the number of a release, or the name of a one-off job.
func (s ServiceID) Workload(name string) WorkloadID { return WorkloadID{ServiceID: s, Name: name} }

// MarshalText gives the form of String.
func (s ServiceID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the form of String.
func (s *ServiceID) UnmarshalText(text []byte) error {
	parts, err := splitPath(string(text), 4)
	if err != nil {
		return err
	}
	*s = ServiceID{Scope{parts[0], parts[1], parts[2]}, parts[3]}
	return nil
}

// WorkloadID names a workload. Name is the release's number in decimal for what serves, and
// "NUMBER.release" or "run.ID" for jobs that run once in a release's image. "NUMBER-baseline-NEWER" are fresh instances of
// a release that a newer one is compared with.
type WorkloadID struct {
	ServiceID
	Name string
}

// BaselineOf stands in the name of a baseline between the numbers of its release and of the newer one.
const BaselineOf = "-baseline-"

// BaselineName names the workload of fresh instances of a release that a newer one is compared with.
func BaselineName(release, newer int) string { return Itoa(release) + BaselineOf + Itoa(newer) }

// String gives "project/environment/app/service/name".
func (w WorkloadID) String() string { return w.ServiceID.String() + "/" + w.Name }

// MarshalText gives the form of String.
func (w WorkloadID) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads the form of String.
func (w *WorkloadID) UnmarshalText(text []byte) error {
	parts, err := splitPath(string(text), 5)
	if err != nil {
		return err
	}
	*w = WorkloadID{ServiceID{Scope{parts[0], parts[1], parts[2]}, parts[3]}, parts[4]}
	return nil
}

func splitPath(path string, want int) ([]string, error) {
	parts := strings.Split(path, "/")
	if len(parts) != want {
		return nil, Errorf(Invalid, "name %q has %d parts, not %d", path, len(parts), want)
	}
	return parts, nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$`)

// CheckName tells whether name can name a project, environment, app, service, network, volume,
// config or secret: 1 to 63 of a-z, 0-9, "-", "_", ".", beginning and ending with a letter or digit.
// The error is of kind Invalid.
func CheckName(what, name string) error {
	if nameForm.MatchString(name) {
		return nil
	}
	return WithHint(Errorf(Invalid, "%s name %q is not allowed", what, name),
		fmt.Sprintf("use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit: %q", suggestName(name)))
}

var workflowNameForm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)

// CheckWorkflowName tells whether something of workflows, such as a secret, may have the name, as Invalid.
func CheckWorkflowName(what, name string) error {
	if workflowNameForm.MatchString(name) && !strings.HasPrefix(name, "GITHUB_") {
		return nil
	}
	return WithHint(Errorf(Invalid, "the name %q is not allowed for a %s of workflows", name, what),
		"use letters, digits and '_', not beginning with a digit or GITHUB_, such as NPM_TOKEN")
}

func suggestName(name string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	mapped = strings.Trim(mapped, "-_.")
	if mapped == "" {
		return "app"
	}
	return strings.TrimRight(mapped[:min(len(mapped), 63)], "-_.")
}
