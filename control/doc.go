// Package control is the shell around plan's judgement: it observes, plans and applies.
//
// A [Controller] keeps what the store and the engine tell in memory, by app. Whatever changes puts
// the app's key into a queue; for each key at most one worker at a time asks plan what to do,
// commits the stored part at once with compare-and-swap, publishes traffic, and then works on the
// engine. Nothing is decided before the engine has told all that it has, so that a server that
// comes back adopts what runs and restarts nothing. While the engine is away its last word stands.
//
// What a person asks for - deploy, roll back, restart, scale, stop, start, remove - is one commit
// each: once it returns, it is on the disk and happens even if the server dies.
//
// Traffic is a function of one service's state, releases and observations; a service of which any of
// these changed is computed anew and handed to the [Publisher], which leads it to the data planes.
package control
