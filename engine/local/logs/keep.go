package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

// Removed is what a retention pass removed.
type Removed struct {
	Segments  int       `json:"segments"`
	Instances int       `json:"instances"` // whose log is gone altogether
	Bytes     int64     `json:"bytes"`
	Until     time.Time `json:"until,omitzero"` // nothing that was written later was removed
}

// Run compresses complete segments and removes the oldest, until ctx ends.
func (l *Logs) Run(ctx context.Context) error {
	again := time.NewTicker(l.cfg.Interval)
	defer again.Stop()
	for {
		if err := l.compress(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("logs could not be compressed", "error", err)
		}
		removed, err := l.Retain(ctx)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("old logs could not be removed", "error", err)
		}
		if removed.Segments > 0 {
			l.log.Info("removed old logs", "segments", removed.Segments, "instances", removed.Instances, "bytes", removed.Bytes, "until", removed.Until)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// kept is a segment on the disk.
type kept struct {
	segment.File
	dir     string
	growing bool // or it may be: what is being written is the last of its log
	live    bool // another of its log is being written
}

func (k kept) path() string { return filepath.Join(k.dir, k.String()) }

// scan gives the segments of all logs that the filter admits.
func (l *Logs) scan(ctx context.Context, f *filter) ([]kept, error) {
	var all []kept
	err := f.walk(l.root, l.root, 0, func(string, int) error { return ctx.Err() }, func(p place) error {
		files, err := segment.List(p.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		first := len(all)
		live := false
		for _, file := range files {
			k := kept{File: file, dir: p.dir}
			if !file.Compressed {
				if k.growing, err = segment.Growing(k.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			live = live || k.growing
			all = append(all, k)
		}
		for i := first; i < len(all); i++ {
			all[i].live = live
		}
		return nil
	})
	return all, err
}

// smallest is what is worth compressing.
const smallest = 64 << 10

// compress compresses the segments that are complete.
func (l *Logs) compress(ctx context.Context) error {
	all, err := l.scan(ctx, &filter{})
	if err != nil {
		return maru.Errorf(maru.Internal, "compress logs: %w", err)
	}
	var errs []error
	for _, k := range all {
		if k.Compressed || k.growing || k.Size < smallest {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if err := compressSegment(k); err != nil {
			errs = append(errs, maru.Errorf(maru.Internal, "compress %s: %w", k.path(), err))
		}
	}
	return errors.Join(errs...)
}

const unfinishedPrefix = ".zst-"

// compressSegment replaces a segment by its compressed form, which is on the disk before the other goes.
func compressSegment(k kept) (err error) {
	in, err := os.Open(k.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	name := k.Name
	name.Compressed = true
	unfinished := filepath.Join(k.dir, unfinishedPrefix+name.String())
	out, err := os.OpenFile(unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(unfinished))
		}
	}()
	buffered := bufio.NewWriterSize(out, 256<<10)
	err = compress(buffered, in)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(unfinished, time.Time{}, k.Modified); err != nil {
		return err
	}
	if err := os.Rename(unfinished, filepath.Join(k.dir, name.String())); err != nil {
		return err
	}
	if err := syncDir(k.dir); err != nil {
		return err
	}
	if err := os.Remove(k.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Retain removes the oldest segments until what is left keeps the limits, and tells what it removed:
// first those that are too old, then those of instances that ended, then complete ones of the others.
// Run does it by itself; segments that are still being written are never removed.
func (l *Logs) Retain(ctx context.Context) (Removed, error) {
	all, err := l.scan(ctx, &filter{})
	if err != nil {
		return Removed{}, maru.Errorf(maru.Internal, "retain logs: %w", err)
	}
	slices.SortFunc(all, func(a, b kept) int {
		if a.live != b.live {
			if a.live {
				return 1
			}
			return -1
		}
		if c := a.Modified.Compare(b.Modified); c != 0 {
			return c
		}
		return strings.Compare(a.path(), b.path())
	})
	var total int64
	for _, k := range all {
		total += k.Size
	}
	oldest := time.Now().Add(-l.cfg.MaxAge)
	var gone []kept
	for _, k := range all {
		tooOld := l.cfg.MaxAge > 0 && k.Modified.Before(oldest)
		tooMuch := l.cfg.MaxBytes > 0 && total > l.cfg.MaxBytes
		if !k.growing && (tooOld || tooMuch) {
			gone = append(gone, k)
			total -= k.Size
		}
	}
	removed, err := l.remove(gone)
	return removed, errors.Join(err, l.sweep(ctx))
}

func (l *Logs) remove(gone []kept) (Removed, error) {
	var removed Removed
	var errs []error
	touched := map[string]bool{}
	for _, k := range gone {
		if err := os.Remove(k.path()); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		touched[k.dir] = true
		removed.Segments++
		removed.Bytes += k.Size
		if k.Modified.After(removed.Until) {
			removed.Until = k.Modified
		}
	}
	for dir := range touched {
		if files, err := segment.List(dir); err == nil && len(files) == 0 {
			removed.Instances++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return removed, maru.Errorf(maru.Internal, "remove logs: %w", err)
	}
	return removed, nil
}

// grace is how old something unfinished or empty is at least, when it is nobody's.
const grace = time.Minute

// sweep removes folders without a segment and files that a crash left unfinished.
func (l *Logs) sweep(ctx context.Context) error {
	type folder struct {
		dir      string
		modified time.Time // before anything was removed from it
	}
	var folders []folder
	add := func(dir string) {
		if info, err := os.Stat(dir); err == nil {
			folders = append(folders, folder{dir, info.ModTime()})
		}
	}
	err := (&filter{}).walk(l.root, l.root, 0, func(dir string, level int) error {
		if level > 0 {
			add(dir)
		}
		return ctx.Err()
	}, func(p place) error {
		add(p.dir)
		return sweepFiles(p.dir)
	})
	if err != nil {
		return maru.Errorf(maru.Internal, "sweep logs: %w", err)
	}
	for _, f := range slices.Backward(folders) { // the deeper ones come later
		if time.Since(f.modified) < grace {
			continue
		}
		err := os.Remove(f.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
			return maru.Errorf(maru.Internal, "sweep logs: %w", err)
		}
	}
	return nil
}

func sweepFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinishedPrefix) && !strings.HasPrefix(e.Name(), segment.NewPrefix) {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < grace {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unfinished: %w", err)
		}
	}
	return nil
}
