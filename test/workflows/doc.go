// Package workflows runs workflows as projects have them, with the real program and the toolchains that they ask
// for: green as they are, and red with a fault. It also holds what jobs can't do.
package workflows
