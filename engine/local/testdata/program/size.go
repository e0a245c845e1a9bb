package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// size prints the terminal's size, and again when it changed, then ends.
func size() error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	for range 2 {
		var dimensions [4]uint16
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&dimensions))); errno != 0 {
			return errno
		}
		fmt.Println("size", dimensions[0], dimensions[1])
		if dimensions[0] == 50 {
			return nil
		}
		<-changed
	}
	return nil
}
