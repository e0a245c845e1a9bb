// Package memory is an engine without containers: instances are records that behave as a function
// says. It keeps the contract of [maru.Engine] and [maru.Drainer] exactly, decides as the local
// engine does (plan.Instances), and passes the same suite. It serves tests, which can run it under
// testing/synctest, and simulations of up to hundreds of thousands of instances: the cost of a change
// is that of the one workload which changed.
package memory
