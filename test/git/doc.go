// Package git pushes to a whole installation of Maru with the real git program: images are built, containers
// start, requests are answered, and the platform's processes are killed meanwhile.
package git
