package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// Bench measures what the control plane does most.
func Bench(b *testing.B, open Open) {
	value := `{"text":"` + strings.Repeat("x", 1000) + `"}`
	b.Run("Commit", func(b *testing.B) {
		s := opened(b, open, b.TempDir())
		for b.Loop() {
			commit(b, s, set(key("app", "a"), maru.Any, value))
		}
	})
	b.Run("Commit of 10", func(b *testing.B) {
		s := opened(b, open, b.TempDir())
		batch := make([]maru.Change, 10)
		for i := range batch {
			batch[i] = set(key("app", fmt.Sprint(i)), maru.Any, value)
		}
		for b.Loop() {
			commit(b, s, batch...)
		}
	})
	b.Run("Commit from 16", func(b *testing.B) {
		s := opened(b, open, b.TempDir())
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Commit(context.Background(), set(key("app", "a"), maru.Any, value)); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Commit and watch", func(b *testing.B) {
		s := opened(b, open, b.TempDir())
		told := make(chan maru.Revision)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			for event, err := range s.Watch(ctx, 0) {
				if err != nil {
					b.Error(err)
				}
				told <- event.Revision
			}
		}()
		for b.Loop() {
			commit(b, s, set(key("app", "a"), maru.Any, value))
			<-told
		}
	})
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint("with ", n, " objects"), func(b *testing.B) {
			s := opened(b, open, b.TempDir())
			for i := 0; i < n; i += 100 {
				batch := make([]maru.Change, 100)
				for j := range batch {
					batch[j] = set(key("app", fmt.Sprintf("%04d/%02d", (i+j)/10, (i+j)%10)), 0, value)
				}
				commit(b, s, batch...)
			}
			b.Run("Get", func(b *testing.B) {
				for b.Loop() {
					if _, err := s.Get(b.Context(), key("app", "0042/07")); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("List of 10", func(b *testing.B) {
				for b.Loop() {
					if objects, _ := list(b, s, "app", "0042/"); len(objects) != 10 {
						b.Fatal(objects)
					}
				}
			})
			b.Run("List of all", func(b *testing.B) {
				for b.Loop() {
					if objects, _ := list(b, s, "app", ""); len(objects) != n {
						b.Fatal(len(objects))
					}
				}
			})
		})
	}
}
