// Package build makes images from source: from a Dockerfile, or from a Go program straight.
//
// This package is the contract between those who want an image and the process that makes it: a
// [Request], the [Event]s on the way, and how both travel over the builder's socket ([Client] on one
// side, [Handler] on the other). The making itself is in worker, which that process runs; it puts the
// image into the store that instances start from, so that a built image needs no push and no pull.
package build
