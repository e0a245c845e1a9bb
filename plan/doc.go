// Package plan is the platform's judgement: what to do next, given what is wanted and what is.
//
// Everything here is a pure function of its arguments: plain data in, plain data out, sorted; no
// clock, no randomness, no context, no I/O. The shell around it (control/, and the engine for the
// instances of one workload) observes, calls a decider, applies what it says, and does so again at
// the latest at the time that the plan names. A plan that is empty means: nothing to do until
// something changes. Every decider converges: when its actions are applied and nothing else
// happens, it comes to an empty plan.
//
// [App] moves and keeps the services of one app in one environment, [Instances] the instances of one
// workload. [Deploy], [Rollback], [Restart], [Scale], [Stop], [Start] and [Remove] turn a person's
// wish into the stored objects that App then works on. [WorkloadOf] and [Traffic] say what a release
// means to an engine and to a data plane; [Status] and [Changes] say it in words.
package plan
