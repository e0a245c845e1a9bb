package diskguard

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
)

// disk is a disk of which a test says how full it is.
type disk struct {
	share    func(since time.Duration) float64 // in use, by the time since the guard was made
	images   atomic.Int32
	builds   atomic.Int32
	messages []string
}

func (d *disk) guard(t *testing.T) *Guard {
	began := time.Now()
	return New(Config{Used: func(string) (float64, error) { return d.share(time.Since(began)), nil }}, Cleaner{
		Images: func(context.Context) ([]maru.Image, error) {
			d.images.Add(1)
			return []maru.Image{{Reference: "old@sha256:1", Bytes: 5 << 20}}, nil
		},
		Builds: func(context.Context) (int64, error) {
			d.builds.Add(1)
			return 0, maru.Errorf(maru.Unavailable, "no builder")
		},
		Tell: func(_ context.Context, message string) { d.messages = append(d.messages, message) },
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func run(t *testing.T, d *disk, then func()) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.guard(t).Run(ctx) }()
		then()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLeavesAnEmptyDiskAloneForADay(t *testing.T) {
	d := &disk{share: func(time.Duration) float64 { return 0.5 }}
	run(t, d, func() {
		time.Sleep(24*time.Hour - time.Second)
		synctest.Wait()
		if d.images.Load() != 0 {
			t.Errorf("cleaned %d times within a day", d.images.Load())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if d.images.Load() != 1 || d.builds.Load() != 0 {
			t.Errorf("cleaned %d times after a day, builds %d times", d.images.Load(), d.builds.Load())
		}
	})
}

func TestCleansAFullDiskOnceUntilItFillsFurther(t *testing.T) {
	d := &disk{share: func(since time.Duration) float64 {
		if since > time.Hour {
			return 0.92
		}
		return 0.9
	}}
	run(t, d, func() {
		time.Sleep(time.Hour)
		synctest.Wait()
		if d.images.Load() != 1 || d.builds.Load() != 1 {
			t.Errorf("cleaned %d times, builds %d times", d.images.Load(), d.builds.Load())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if d.images.Load() != 2 {
			t.Errorf("cleaned %d times after it was filled further", d.images.Load())
		}
	})
	if !strings.Contains(d.messages[0], "nearly full: removed 1 unused images with 5 MiB") {
		t.Errorf("told %q", d.messages[0])
	}
}

func TestAsksTheFileSystem(t *testing.T) {
	share, err := used(t.TempDir())
	if err != nil || share <= 0 || share >= 1 {
		t.Errorf("used = %v, %v", share, err)
	}
}
