package main

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// restartSignal is SIGRTMAX, which no program that runs under process 1 is sent from outside.
const restartSignal = syscall.Signal(64)

// restartPatience is how long a command has to end before it is killed, as docker restart gives it.
const restartPatience = 10 * time.Second

// askRestart tells process 1 to start its command again. It has to be this program: in the host's
// namespace of processes it would be another.
func askRestart() error {
	name, err := os.ReadFile("/proc/1/cmdline")
	if err != nil {
		return err
	}
	own := os.Args[0] + "\x00"
	if len(name) < len(own) || string(name[:len(own)]) != own {
		return errors.New("process 1 is not maru-init")
	}
	return syscall.Kill(1, restartSignal)
}

// restarter knows whether the end of the command is to be followed by another start.
type restarter struct {
	asked bool
	late  *time.Timer
}

func (r *restarter) ask(child int) {
	if r.asked {
		return
	}
	r.asked, r.late = true, time.NewTimer(restartPatience)
	_ = syscall.Kill(child, syscall.SIGTERM)
}

// patience gives when a command that was asked to end has had its time; nil when none was asked.
func (r *restarter) patience() <-chan time.Time {
	if r.late == nil {
		return nil
	}
	return r.late.C
}

// ended tells whether the command that ended is to be started again.
func (r *restarter) ended() bool {
	again := r.asked
	r.asked, r.late = false, nil
	return again
}

// ends tells whether the signal asks an instance to end: then nothing is started again.
func ends(s syscall.Signal) bool {
	return s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT
}
