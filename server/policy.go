package server

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/api/gen/maru/v1/maruv1connect"
)

// reach is how a procedure's requests relate to a scope.
type reach int

const (
	anybody reach = iota + 1 // needs no credentials
	caller                   // concerns the caller alone: any credentials do
	machine                  // concerns the whole machine: credentials without a scope
	app                      // one app: the empty project and environment have defaults
	shared                   // one app, or with an empty app what the environment's apps share
	pattern                  // a scope whose empty parts match all, within the caller's
	filter                   // like pattern, but what is outside the caller's scope is left out
)

// rule says who may call a procedure.
type rule struct {
	reach reach
	role  maru.Role
}

// rules has every procedure of the API. What is not here can't be called.
var rules = map[string]rule{
	maruv1connect.AppServicePlanProcedure:     {app, maru.RoleRead},
	maruv1connect.AppServiceDeployProcedure:   {app, maru.RoleDeploy},
	maruv1connect.AppServiceFollowProcedure:   {app, maru.RoleRead},
	maruv1connect.AppServiceRollbackProcedure: {app, maru.RoleDeploy},
	maruv1connect.AppServicePromoteProcedure:  {app, maru.RoleDeploy},
	maruv1connect.AppServiceAbortProcedure:    {app, maru.RoleDeploy},
	maruv1connect.AppServicePauseProcedure:    {app, maru.RoleDeploy},
	maruv1connect.AppServiceResumeProcedure:   {app, maru.RoleDeploy},
	maruv1connect.AppServiceRestartProcedure:  {app, maru.RoleDeploy},
	maruv1connect.AppServiceScaleProcedure:    {app, maru.RoleDeploy},
	maruv1connect.AppServiceStopProcedure:     {app, maru.RoleDeploy},
	maruv1connect.AppServiceStartProcedure:    {app, maru.RoleDeploy},
	maruv1connect.AppServiceRemoveProcedure:   {app, maru.RoleDeploy},
	maruv1connect.AppServiceListProcedure:     {filter, maru.RoleRead},
	maruv1connect.AppServiceStatusProcedure:   {app, maru.RoleRead},
	maruv1connect.AppServiceWatchProcedure:    {app, maru.RoleRead},
	maruv1connect.AppServiceReleasesProcedure: {app, maru.RoleRead},
	maruv1connect.AppServiceRolloutsProcedure: {app, maru.RoleRead},
	maruv1connect.AppServiceEventsProcedure:   {filter, maru.RoleRead},
	maruv1connect.AppServiceUsageProcedure:    {filter, maru.RoleRead},

	maruv1connect.RouteServiceListRoutesProcedure:   {filter, maru.RoleRead},
	maruv1connect.RouteServiceExplainRouteProcedure: {filter, maru.RoleRead},

	maruv1connect.RunServiceListProcedure:    {filter, maru.RoleRead},
	maruv1connect.RunServiceLogsProcedure:    {app, maru.RoleRead},
	maruv1connect.RunServiceRetryProcedure:   {app, maru.RoleDeploy},
	maruv1connect.RunServiceCancelProcedure:  {app, maru.RoleDeploy},
	maruv1connect.RunServiceApproveProcedure: {app, maru.RoleDeploy},
	maruv1connect.RunServicePromoteProcedure: {app, maru.RoleDeploy},

	maruv1connect.EnvironmentServiceListProcedure:   {filter, maru.RoleRead},
	maruv1connect.EnvironmentServiceRemoveProcedure: {app, maru.RoleDeploy},

	maruv1connect.RepositoryServiceGetProcedure:      {app, maru.RoleRead},
	maruv1connect.RepositoryServiceProtectProcedure:  {app, maru.RoleAdmin},
	maruv1connect.RepositoryServiceFollowProcedure:   {app, maru.RoleAdmin},
	maruv1connect.RepositoryServiceUnfollowProcedure: {app, maru.RoleAdmin},

	maruv1connect.DeliveryServiceDoraProcedure: {filter, maru.RoleRead},

	maruv1connect.NotifyServiceAddProcedure:    {pattern, maru.RoleAdmin},
	maruv1connect.NotifyServiceListProcedure:   {filter, maru.RoleRead},
	maruv1connect.NotifyServiceRemoveProcedure: {pattern, maru.RoleAdmin},
	maruv1connect.NotifyServiceTestProcedure:   {pattern, maru.RoleAdmin},

	maruv1connect.LogServiceLogsProcedure: {filter, maru.RoleRead},

	maruv1connect.ExecServiceExecProcedure:    {app, maru.RoleDeploy},
	maruv1connect.ExecServiceRunProcedure:     {app, maru.RoleDeploy},
	maruv1connect.ExecServiceForwardProcedure: {app, maru.RoleDeploy},

	maruv1connect.PipelineServiceRunProcedure: {shared, maru.RoleDeploy},

	maruv1connect.ImageServicePullProcedure:  {machine, maru.RoleDeploy},
	maruv1connect.ImageServiceLoadProcedure:  {machine, maru.RoleDeploy},
	maruv1connect.ImageServiceListProcedure:  {machine, maru.RoleRead},
	maruv1connect.ImageServicePruneProcedure: {machine, maru.RoleAdmin},

	maruv1connect.VolumeServiceListProcedure:   {filter, maru.RoleRead},
	maruv1connect.VolumeServiceRemoveProcedure: {shared, maru.RoleDeploy},

	maruv1connect.SecretServiceSetProcedure:    {shared, maru.RoleDeploy},
	maruv1connect.SecretServiceListProcedure:   {filter, maru.RoleRead},
	maruv1connect.SecretServiceRemoveProcedure: {shared, maru.RoleDeploy},

	maruv1connect.ConfigServiceSetProcedure:    {shared, maru.RoleDeploy},
	maruv1connect.ConfigServiceListProcedure:   {filter, maru.RoleRead},
	maruv1connect.ConfigServiceRemoveProcedure: {shared, maru.RoleDeploy},

	maruv1connect.EnvServiceSetProcedure:    {shared, maru.RoleDeploy},
	maruv1connect.EnvServiceListProcedure:   {shared, maru.RoleDeploy},
	maruv1connect.EnvServiceRemoveProcedure: {shared, maru.RoleDeploy},

	maruv1connect.AccessServiceWhoAmIProcedure:       {caller, maru.RoleRead},
	maruv1connect.AccessServiceCreateTokenProcedure:  {pattern, maru.RoleAdmin},
	maruv1connect.AccessServiceListTokensProcedure:   {caller, maru.RoleAdmin},
	maruv1connect.AccessServiceRevokeTokenProcedure:  {caller, maru.RoleRead},
	maruv1connect.AccessServiceListGrantsProcedure:   {caller, maru.RoleRead},
	maruv1connect.AccessServiceAddGrantsProcedure:    {machine, maru.RoleAdmin},
	maruv1connect.AccessServiceRemoveGrantsProcedure: {machine, maru.RoleAdmin},

	maruv1connect.CertificateServiceAddProcedure:    {machine, maru.RoleAdmin},
	maruv1connect.CertificateServiceListProcedure:   {machine, maru.RoleRead},
	maruv1connect.CertificateServiceRemoveProcedure: {machine, maru.RoleAdmin},

	maruv1connect.SourceServiceOfferProcedure:  {caller, maru.RoleDeploy},
	maruv1connect.SourceServiceUploadProcedure: {caller, maru.RoleDeploy},

	maruv1connect.SystemServiceInfoProcedure:      {anybody, maru.RoleRead},
	maruv1connect.SystemServiceHealthProcedure:    {caller, maru.RoleRead},
	maruv1connect.SystemServiceAuthorityProcedure: {anybody, maru.RoleRead},
	maruv1connect.SystemServiceBackupProcedure:    {machine, maru.RoleAdmin},
	maruv1connect.SystemServiceRestoreProcedure:   {machine, maru.RoleAdmin},
}

// policyInterceptor holds every request against rules before its handler sees it, and gives its scope
// the defaults that the rule has.
type policyInterceptor struct{}

func (policyInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := admit(ctx, req.Spec().Procedure, req.Any()); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (policyInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := admitCaller(ctx, conn.Spec().Procedure); err != nil {
			return err
		}
		return next(ctx, admittingConn{conn, ctx})
	}
}

func (policyInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// admittingConn holds the messages of a stream against the rules as they come in.
type admittingConn struct {
	connect.StreamingHandlerConn
	ctx context.Context
}

func (c admittingConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return err
	}
	return admit(c.ctx, c.Spec().Procedure, message)
}

// admitCaller checks the caller's role, and that it has no scope where the rule asks for that.
func admitCaller(ctx context.Context, procedure string) error {
	rule, ok := rules[procedure]
	if !ok {
		return maru.Errorf(maru.Denied, "nobody may call %s", procedure)
	}
	if rule.reach == anybody {
		return nil
	}
	who, ok := callerOf(ctx)
	switch {
	case !ok:
		return maru.WithHint(maru.Errorf(maru.Unauthenticated, "no credentials"),
			"make a token with `maru login` on the server's machine, and give it to `maru login URL` here")
	case !who.Role.Includes(rule.role):
		return maru.WithHint(maru.Errorf(maru.Denied, "%s has the role %s; this needs %s", who.Name, who.Role, rule.role),
			"ask an administrator for a token with the role "+string(rule.role))
	case rule.reach == machine && who.Scope != (maru.Scope{}):
		return maru.WithHint(maru.Errorf(maru.Denied, "%s is limited to %s; this concerns the whole machine", who.Name, scopeText(who.Scope)),
			"use a token without a scope")
	}
	return nil
}

// admit checks a message of the procedure, and puts defaults into its scope.
func admit(ctx context.Context, procedure string, message any) error {
	if err := admitCaller(ctx, procedure); err != nil {
		return err
	}
	rule := rules[procedure]
	if rule.reach < app {
		return nil
	}
	scoped, field, ok := scopeField(message)
	if !ok {
		return nil // a later message of a stream
	}
	who, _ := callerOf(ctx)
	scope, err := decide(rule.reach, who.Scope, scopeFrom(scoped.Get(field)))
	if err != nil {
		return maru.Errorf(maru.KindOf(err), "%s: %w", who.Name, err)
	}
	scoped.Set(field, protoreflect.ValueOfMessage(scopeProto(scope).ProtoReflect()))
	return nil
}

// decide gives the scope that a request is about, or why the caller may not ask for it.
func decide(reach reach, has, asked maru.Scope) (maru.Scope, error) {
	if reach == app || reach == shared {
		asked.Project = orDefault(asked.Project, maru.DefaultProject)
		asked.Environment = orDefault(asked.Environment, maru.DefaultEnvironment)
	}
	if err := checkScope(asked, reach); err != nil {
		return maru.Scope{}, err
	}
	if reach == filter {
		narrowed := maru.Scope{
			Project:     orDefault(asked.Project, has.Project),
			Environment: orDefault(asked.Environment, has.Environment),
			App:         orDefault(asked.App, has.App),
		}
		asked = narrowed
	}
	if !has.Covers(asked) {
		return maru.Scope{}, maru.WithHint(
			maru.Errorf(maru.Denied, "limited to %s, which does not have %s", scopeText(has), scopeText(asked)),
			"use a token for "+scopeText(asked))
	}
	return asked, nil
}

func checkScope(s maru.Scope, reach reach) error {
	if s.Project == maru.JobsProject {
		return maru.Errorf(maru.Invalid, "the project %s is for the jobs of pipelines", s.Project)
	}
	for _, part := range []struct{ what, name string }{{"project", s.Project}, {"environment", s.Environment}, {"app", s.App}} {
		if part.name == "" {
			continue
		}
		if err := maru.CheckName(part.what, part.name); err != nil {
			return err
		}
	}
	if reach == app && s.App == "" {
		return maru.WithHint(maru.Errorf(maru.Invalid, "no app is named"), "name one with --app")
	}
	return nil
}

// scopeField finds where a message says its scope: in the message, or in the start of a stream.
func scopeField(message any) (protoreflect.Message, protoreflect.FieldDescriptor, bool) {
	switch m := message.(type) {
	case *maruv1.ExecRequest:
		switch {
		case m.GetStart() != nil:
			message = m.GetStart()
		case m.GetRun() != nil:
			if m.GetRun().Command == nil {
				m.GetRun().Command = &maruv1.RunRequest{} // which names no app
			}
			message = m.GetRun().Command
		default:
			return nil, nil, false
		}
	case *maruv1.ForwardRequest:
		if m.GetStart() == nil {
			return nil, nil, false
		}
		message = m.GetStart()
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, nil, false
	}
	reflected := m.ProtoReflect()
	field := reflected.Descriptor().Fields().ByName("scope")
	return reflected, field, field != nil
}

func scopeFrom(v protoreflect.Value) maru.Scope {
	s, ok := v.Message().Interface().(*maruv1.Scope)
	if !ok {
		return maru.Scope{}
	}
	return fromScope(s)
}

// scopeText names a scope for people, with a star for what matches all.
func scopeText(s maru.Scope) string {
	return orDefault(s.Project, "*") + "/" + orDefault(s.Environment, "*") + "/" + orDefault(s.App, "*")
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
