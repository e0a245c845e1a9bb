// Package maru holds the nouns and the shared contracts of the platform. Start here.
//
// Everything else is an adapter around these types: compose/ turns a file into an [App], control/
// turns an App into [Workload]s and traffic, an [Engine] runs workloads as [Instance]s, a [Store]
// keeps what was acknowledged, traffic/ carries requests to what is ready. The package imports the
// standard library alone, and no package's third-party types cross into it.
//
// The words are the field's own. An app is what one compose file defines. It lives in an
// environment of a project, which together are its [Scope]. Each service of an app has numbered,
// immutable [Release]s; a [Rollout] moves an app's services from their present releases to others;
// a workload is a release made to run on an engine; an instance is one running container of it.
package maru
