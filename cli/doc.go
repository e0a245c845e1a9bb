// Package cli is Maru's commands, which talk to a server. It builds on every operating system.
package cli
