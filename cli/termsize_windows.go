package cli

import (
	"golang.org/x/term"

	"github.com/marucloud/maru"
)

// watchSize gives the terminal's size at the beginning: this system does not tell of changes.
func watchSize(fd int) (sizes <-chan maru.TermSize, stop func()) {
	out := make(chan maru.TermSize, 1)
	if cols, rows, err := term.GetSize(fd); err == nil {
		out <- maru.TermSize{Rows: uint16(rows), Cols: uint16(cols)}
	}
	close(out)
	return out, func() {}
}
