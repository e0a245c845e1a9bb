// Package source keeps Git repositories and serves them by Git's smart HTTP protocol, version 0 to 2.
//
// The git program does all that concerns objects and refs. This package finds the repository, lets people in
// by their tokens, says what a push may do, and writes what follows from a push into its answer, so that
// people see it where they pushed. No setting and no hook of a repository is in force: each call of git
// brings its own.
package source
