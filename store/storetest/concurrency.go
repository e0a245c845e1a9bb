package storetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/marucloud/maru"
)

// testCounters has many writers count one number up by compare and swap.
func testCounters(t *testing.T, s Store) {
	const writers, each = 8, 25
	k := key("counter", "a")
	commit(t, s, set(k, 0, `0`))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for done := 0; done < each; {
				object, err := s.Get(t.Context(), k)
				if err != nil {
					t.Error(err)
					return
				}
				n, err := strconv.Atoi(string(object.Data))
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Commit(t.Context(), set(k, object.Revision, fmt.Sprint(n+1)))
				switch maru.KindOf(err) {
				case "":
					done++
				case maru.Conflict:
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	object, err := s.Get(t.Context(), k)
	if err != nil || string(object.Data) != fmt.Sprint(writers*each) || object.Revision != writers*each+1 {
		t.Errorf("counted to %s at revision %d, %v", object.Data, object.Revision, err)
	}
}

// testWholeCommits moves amounts between accounts while readers add them up.
func testWholeCommits(t *testing.T, s Store) {
	const accounts, start, writers, each = 5, 100, 4, 40
	var first []maru.Change
	for i := range accounts {
		first = append(first, set(key("account", fmt.Sprint(i)), 0, fmt.Sprint(start)))
	}
	commit(t, s, first...)
	sum := func() (total int, objects []maru.Object, err error) {
		objects, _, err = s.List(t.Context(), "account", "")
		for _, o := range objects {
			var n int
			if err := json.Unmarshal(o.Data, &n); err != nil {
				return 0, nil, err
			}
			total += n
		}
		return total, objects, err
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				_, objects, err := sum()
				if err != nil {
					t.Error(err)
					return
				}
				from, to := objects[(w+i)%accounts], objects[(w+i+1)%accounts]
				a, _ := strconv.Atoi(string(from.Data))
				b, _ := strconv.Atoi(string(to.Data))
				_, err = s.Commit(t.Context(), set(from.Key, from.Revision, fmt.Sprint(a-1)), set(to.Key, to.Revision, fmt.Sprint(b+1)))
				if err != nil && maru.KindOf(err) != maru.Conflict {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			for range each {
				if total, _, err := sum(); err != nil || total != accounts*start {
					t.Errorf("the accounts hold %d, %v", total, err)
					return
				}
			}
		})
	}
	all.Wait()
}
