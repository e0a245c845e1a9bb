//go:build !windows

package cli

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/marucloud/maru"
)

// watchSize gives the terminal's size now and after each change, until stop is called.
func watchSize(fd int) (sizes <-chan maru.TermSize, stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	changed <- syscall.SIGWINCH
	out, done := make(chan maru.TermSize), make(chan struct{})
	go func() {
		defer close(out)
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			cols, rows, err := term.GetSize(fd)
			if err != nil {
				continue
			}
			select {
			case out <- maru.TermSize{Rows: uint16(rows), Cols: uint16(cols)}:
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(changed); close(done) }
}
