package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// contexts gives what the run's expressions know, and the event's payload.
func (req Request) contexts() (schedule.Contexts, []byte, error) {
	inputs, err := req.inputs()
	if err != nil {
		return schedule.Contexts{}, nil, err
	}
	e := req.Event
	payload := e.payload(req.Inputs)
	if e.Payload != nil {
		v, err := expr.FromJSON(string(e.Payload))
		o, ok := v.(*expr.Object)
		if err != nil || !ok {
			return schedule.Contexts{}, nil, maru.Errorf(maru.Invalid, "the event's payload is no JSON object: %v", err)
		}
		payload = o
	}
	text, err := expr.ToJSON(payload)
	if err != nil {
		return schedule.Contexts{}, nil, err
	}
	owner, _, _ := strings.Cut(e.Repository, "/")
	name, kind := refName(e.Ref)
	sha, server := e.SHA, e.ServerURL
	github := expr.Map(
		"actor", e.Actor, "triggering_actor", e.Actor, "api_url", "", "base_ref", e.Base, "event", payload, "event_name", e.Name,
		"graphql_url", "", "head_ref", e.Head, "ref", e.Ref, "ref_name", name, "ref_protected", req.Trusted, "ref_type", kind,
		"repository", e.Repository, "repository_owner", owner, "repositoryUrl", server, "retention_days", "", "run_id", req.ID,
		"run_number", fmt.Sprint(max(1, req.Number)), "run_attempt", fmt.Sprint(max(1, req.Attempt)), "server_url", server, "sha", sha,
		"token", "", "workflow", req.Workflow.Name, "workflow_ref", e.Repository+"/"+req.Workflow.Path+"@"+e.Ref, "workflow_sha", sha,
		"action", "", "action_path", "", "action_ref", "", "action_repository", "", "job", "", "path", "", "secret_source", "None", "workspace", "",
	)
	secrets := expr.NewObject()
	if req.Trusted {
		secrets = object(req.Secrets)
		github.Set("secret_source", "Actions")
	}
	return schedule.Contexts{GitHub: github, Vars: object(req.Vars), Inputs: inputs, Secrets: secrets}, []byte(text), nil
}

func object(values map[string]string) *expr.Object {
	o := expr.NewObject()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		o.Set(name, values[name])
	}
	return o
}

func refName(ref string) (name, kind string) {
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return tag, "tag"
	}
	if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return name, "branch"
	}
	return strings.TrimPrefix(ref, "refs/pull/"), "branch"
}

// payload is what there is to say of an event that came without one.
func (e Event) payload(inputs map[string]string) *expr.Object {
	owner, name, _ := strings.Cut(e.Repository, "/")
	o := expr.Map("ref", e.Ref, "repository", expr.Map("full_name", e.Repository, "name", name, "owner", expr.Map("login", owner), "default_branch", e.DefaultBranch),
		"sender", expr.Map("login", e.Actor))
	commit := expr.Map("id", e.SHA, "message", e.Message)
	switch e.Name {
	case workflow.Push:
		o.Set("after", e.SHA)
		o.Set("head_commit", commit)
		o.Set("commits", expr.List(commit))
	case workflow.PullRequest:
		o.Set("pull_request", expr.Map("head", expr.Map("ref", e.Head, "sha", e.SHA), "base", expr.Map("ref", e.Base)))
	case workflow.ScheduleEvent:
		o.Set("schedule", e.Cron)
	case workflow.WorkflowDispatch:
		o.Set("inputs", object(inputs))
	}
	return o
}

// inputs are those of workflow_dispatch, of the types that the workflow says.
func (req Request) inputs() (*expr.Object, error) {
	o := expr.NewObject()
	if req.Event.Name != workflow.WorkflowDispatch {
		return o, nil
	}
	for name := range req.Inputs {
		if !slices.ContainsFunc(req.Workflow.Inputs, func(in workflow.Input) bool { return strings.EqualFold(in.Name, name) }) {
			return nil, maru.Errorf(maru.Invalid, "%s has no input %s", req.Workflow.Path, name)
		}
	}
	for _, in := range req.Workflow.Inputs {
		given, ok := "", false
		for name, value := range req.Inputs {
			if strings.EqualFold(name, in.Name) {
				given, ok = value, true
			}
		}
		if !ok && in.Default != nil {
			given, ok = in.Default.Source(), true
		}
		if !ok && in.Required {
			return nil, maru.Errorf(maru.Invalid, "%s needs the input %s", req.Workflow.Path, in.Name)
		}
		v, err := schedule.TypedInput(in, given)
		if err != nil {
			return nil, err
		}
		o.Set(in.Name, v)
	}
	return o, nil
}
