package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/control"
	"github.com/marucloud/maru/engine/remote"
	"github.com/marucloud/maru/internal/archive"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/server"
	"github.com/marucloud/maru/store/sqlite"
)

// Kinds of sections in a backup, in their order.
const (
	sectionKeys   = "keys"   // what opens the secrets
	sectionState  = "state"  // the store
	sectionImages = "images" // those that releases use, which may be in no registry
	sectionVolume = "volume" // one each
)

// restoredMarker says that what lies beside it is complete and takes the store's place at the next start.
const restoredMarker = "complete"

// backups saves all that the control plane keeps, and brings it back.
type backups struct {
	store   *sqlite.Store
	box     *secrets.Box
	engine  *remote.Client
	control *control.Controller
	data    string
	restart func() // ends the process in good order; its successor finds what was restored
}

// Backup writes keys, state, images and volumes.
func (b *backups) Backup(ctx context.Context, w io.Writer, passphrase string, volumes bool) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	out, err := archive.NewWriter(w, archive.Lock{Passphrase: passphrase}, archive.Manifest{Version: version, Host: host, Created: time.Now()})
	if err != nil {
		return err
	}
	if err := b.write(ctx, out, volumes); err != nil {
		out.Fail(err)
		return err
	}
	return out.Close()
}

func (b *backups) write(ctx context.Context, out *archive.Writer, volumes bool) error {
	section := func(kind, name string, write func(io.Writer) error) error {
		to, err := out.Section(archive.Section{Kind: kind, Name: name})
		if err != nil {
			return err
		}
		if err := write(to); err != nil {
			return fmt.Errorf("back up %s %s: %w", kind, name, err)
		}
		return to.Close()
	}
	err := section(sectionKeys, "", func(to io.Writer) error {
		_, err := to.Write(b.box.Export())
		return err
	})
	if err != nil {
		return err
	}
	if err := section(sectionState, "", func(to io.Writer) error { return b.store.Backup(ctx, to) }); err != nil {
		return err
	}
	images, err := b.control.Images(ctx)
	if err != nil {
		return err
	}
	if len(images) > 0 {
		if err := section(sectionImages, "", func(to io.Writer) error { return b.engine.SaveImages(ctx, images, to) }); err != nil {
			return err
		}
	}
	if !volumes {
		return nil
	}
	all, err := b.engine.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := section(sectionVolume, v.ID.String(), func(to io.Writer) error { return b.engine.ExportVolume(ctx, v.ID, to) }); err != nil {
			return err
		}
	}
	return nil
}

// Restore brings back what Backup wrote. State takes effect as a whole, when everything was read and
// found complete: until then nothing of it counts, and it can be tried again.
func (b *backups) Restore(ctx context.Context, r io.Reader, passphrase string) (server.Restored, error) {
	apps, err := b.control.Apps(ctx, maru.Scope{})
	if err != nil {
		return server.Restored{}, err
	}
	if len(apps) > 0 {
		return server.Restored{}, maru.WithHint(maru.Errorf(maru.Conflict, "restore: there are %d apps on this machine", len(apps)), "restore to an empty machine, or remove the apps first with 'maru rm'")
	}
	in, err := archive.NewReader(r, archive.Key{Passphrase: passphrase})
	if err != nil {
		return server.Restored{}, err
	}
	defer in.Close()
	staged := filepath.Join(b.data, "restore")
	if err := errors.Join(os.RemoveAll(staged), os.MkdirAll(staged, 0o700)); err != nil {
		return server.Restored{}, fmt.Errorf("restore: %w", err)
	}
	restored, err := b.stage(ctx, in, staged)
	if err != nil {
		return server.Restored{}, errors.Join(err, b.undo(ctx, restored), os.RemoveAll(staged))
	}
	if err := atomicfile.Write(filepath.Join(staged, restoredMarker), nil, 0o600); err != nil {
		return server.Restored{}, err
	}
	b.restart()
	return restored, nil
}

func (b *backups) stage(ctx context.Context, in *archive.Reader, staged string) (server.Restored, error) {
	var restored server.Restored
	for {
		section, err := in.Next()
		if errors.Is(err, io.EOF) {
			return restored, b.readApps(ctx, staged, &restored)
		}
		if err != nil {
			return restored, err
		}
		switch section.Kind {
		case sectionKeys:
			exported, err := io.ReadAll(in)
			if err == nil {
				err = b.box.Adopt(exported)
			}
			if err != nil {
				return restored, fmt.Errorf("restore keys: %w", err)
			}
		case sectionState:
			err = atomicfile.WriteFunc(filepath.Join(staged, "state.db"), 0o600, func(to io.Writer) error {
				_, err := io.Copy(to, in)
				return err
			})
		case sectionImages:
			_, err = b.engine.Load(ctx, in)
		case sectionVolume:
			var id maru.VolumeID
			if err = id.UnmarshalText([]byte(section.Name)); err == nil {
				err = b.engine.ImportVolume(ctx, id, in)
			}
			if err == nil {
				restored.Volumes = append(restored.Volumes, section.Name)
			}
		}
		if err != nil {
			return restored, fmt.Errorf("restore %s: %w", section, err)
		}
	}
}

// readApps names the apps in the restored state, which also proves that it can be opened.
func (b *backups) readApps(ctx context.Context, staged string, restored *server.Restored) error {
	store, err := sqlite.Open(filepath.Join(staged, "state.db"), sqlite.Config{})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	apps, _, err := store.List(ctx, control.KindApp, "")
	for _, app := range apps {
		restored.Apps = append(restored.Apps, app.Name)
	}
	return errors.Join(err, store.Close())
}

// undo removes the volumes that an incomplete restore brought.
func (b *backups) undo(ctx context.Context, restored server.Restored) error {
	var group errgroup.Group
	for _, name := range restored.Volumes {
		group.Go(func() error {
			var id maru.VolumeID
			if err := id.UnmarshalText([]byte(name)); err != nil {
				return err
			}
			return b.engine.RemoveVolume(context.WithoutCancel(ctx), id)
		})
	}
	return group.Wait()
}

// finishRestore puts a restored store in the place of the present one, before it is opened. It can be
// interrupted at any moment and done again.
func finishRestore(data string) error {
	staged := filepath.Join(data, "restore")
	if _, err := os.Stat(filepath.Join(staged, restoredMarker)); err != nil {
		return os.RemoveAll(staged)
	}
	if _, err := os.Stat(filepath.Join(staged, "state.db")); err == nil {
		for _, suffix := range []string{"-wal", "-shm", ""} {
			if err := os.Remove(filepath.Join(data, "state.db"+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("finish restore: %w", err)
			}
		}
		if err := os.Rename(filepath.Join(staged, "state.db"), filepath.Join(data, "state.db")); err != nil {
			return fmt.Errorf("finish restore: %w", err)
		}
		if err := atomicfile.SyncDir(data); err != nil {
			return err
		}
	}
	return os.RemoveAll(staged)
}
