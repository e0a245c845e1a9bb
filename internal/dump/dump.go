// Package dump asks the kernel for whole lists over netlink.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts are far more than a list takes that others change now and then.
const attempts = 100

// Whole calls list until the kernel gives it in one piece: it gives up a list that something changes
// meanwhile, as any other program on the machine may.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
