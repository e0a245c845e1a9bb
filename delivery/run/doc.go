// Package run carries out what follows from a push: the commit is checked out, built and deployed. Runs are
// objects of the store, so that a process that dies at any moment loses none and doubles none, and their logs
// are files.
//
// What a push is to do is kept before git moves a ref, and a run in the same commit as that its ref was seen
// to have moved. A process that starts looks for refs that moved without having been seen.
package run
