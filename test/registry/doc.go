// Package registry pushes to and pulls from a whole installation of Maru with the libraries of other programs:
// what is pushed is deployed, and the platform's processes are killed meanwhile.
package registry
