package dump_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru/internal/dump"
)

func TestWhole(t *testing.T) {
	calls := 0
	all, err := dump.Whole(func() ([]int, error) {
		if calls++; calls < 3 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if err != nil || !slices.Equal(all, []int{1, 2}) {
		t.Errorf("got %v, %v", all, err)
	}
	failure := errors.New("no")
	if _, err := dump.Whole(func() ([]int, error) { return nil, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if _, err := dump.Whole(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); err == nil {
		t.Error("a list that is never whole is given as one")
	}
}
