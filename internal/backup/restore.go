package backup

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/archive"
)

// Restored tells what a backup brought.
type Restored struct {
	Apps    []string // scopes, sorted
	Volumes []string // sorted
}

// Restore brings back what Backup wrote. Nothing is changed unless the whole file is sound. Errors:
// Conflict on a machine that has apps, or a volume or a Git repository of the backup; Unauthenticated for a
// wrong passphrase; Invalid for what is no backup or is damaged. After an error that came later, volumes and
// repositories that were brought are removed again.
func (b *Backups) Restore(ctx context.Context, r io.Reader, passphrase string) (Restored, error) {
	return b.restore(ctx, r, archive.Key{Passphrase: passphrase})
}

func (b *Backups) restore(ctx context.Context, r io.Reader, key archive.Key) (_ Restored, err error) {
	if err := b.empty(ctx); err != nil {
		return Restored{}, err
	}
	file, err := os.CreateTemp(b.config.Folder, "maru-restore-*")
	if err != nil {
		return Restored{}, maru.Errorf(maru.Internal, "restore: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Nothing of it is left over, also when this process is killed.
	if err := os.Remove(file.Name()); err != nil {
		return Restored{}, maru.Errorf(maru.Internal, "restore: %w", err)
	}
	if _, err := io.Copy(file, &interruptible{ctx, r}); err != nil {
		return Restored{}, maru.Errorf(maru.KindOf(err), "restore: %w", err)
	}
	sections, err := b.verify(file, key)
	if err != nil {
		return Restored{}, err
	}
	if err := b.clash(ctx, sections); err != nil {
		return Restored{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Restored{}, maru.Errorf(maru.Internal, "restore: %w", err)
	}
	return b.bring(ctx, &interruptible{ctx, file}, key)
}

// interruptible is a reader that fails once its time is up.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, maru.Errorf(maru.Interrupted, "%w", context.Cause(r.ctx))
	}
	return r.from.Read(p)
}

// empty tells whether there is no app.
func (b *Backups) empty(ctx context.Context) error {
	apps, _, err := b.config.State.List(ctx, "app", "")
	if err != nil {
		return err
	}
	if len(apps) > 0 {
		return maru.WithHint(maru.Errorf(maru.Conflict, "this machine has apps already, such as %s", apps[0].Name),
			"restore on a machine without apps, or remove them first with maru rm")
	}
	return nil
}

func (b *Backups) verify(file *os.File, key archive.Key) ([]archive.Section, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, maru.Errorf(maru.Internal, "restore: %w", err)
	}
	_, sections, err := archive.Verify(file, key)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(sections, func(s archive.Section) bool { return s.Kind == sectionState }) {
		return nil, maru.Errorf(maru.Invalid, "the backup has no state")
	}
	return sections, nil
}

// clash tells whether a Git repository or a volume of the backup is here already.
func (b *Backups) clash(ctx context.Context, sections []archive.Section) error {
	if b.config.Repositories != nil {
		for _, id := range b.config.Repositories.List() {
			if slices.ContainsFunc(sections, func(s archive.Section) bool { return s.Kind == sectionRepository && s.Name == id.String() }) {
				return maru.WithHint(maru.Errorf(maru.Conflict, "this machine has the Git repository %s already", id),
					"restore on a machine to which nothing was pushed")
			}
		}
	}
	if b.config.Volumes == nil {
		return nil
	}
	present, err := b.config.Volumes.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range present {
		if slices.ContainsFunc(sections, func(s archive.Section) bool { return s.Kind == sectionVolume && s.Name == v.ID.String() }) {
			return maru.WithHint(maru.Errorf(maru.Conflict, "this machine has the volume %s already", v.ID),
				"if nothing on it is needed, remove it first with maru volume rm")
		}
	}
	return nil
}

// bring takes the sections in, and commits the state at last.
func (b *Backups) bring(ctx context.Context, r io.Reader, key archive.Key) (restored Restored, err error) {
	a, err := archive.NewReader(r, key)
	if err != nil {
		return Restored{}, err
	}
	defer a.Close()
	var volumes []maru.VolumeID
	var repositories []maru.RepositoryID
	defer func() {
		if err != nil {
			err = errors.Join(err, b.undo(ctx, volumes, repositories))
		}
	}()
	var state []maru.Change
	for {
		s, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Restored{}, err
		}
		switch s.Kind {
		case sectionState:
			if state, err = readState(a); err != nil {
				return Restored{}, err
			}
		case sectionVolume:
			id, err := b.bringVolume(ctx, s.Name, a)
			if err != nil {
				return Restored{}, err
			}
			volumes = append(volumes, id)
		case sectionRepository:
			id, err := b.bringRepository(ctx, s.Name, a)
			if err != nil {
				return Restored{}, err
			}
			repositories = append(repositories, id)
		default:
			if err := b.bringOther(ctx, s, a); err != nil {
				return Restored{}, err
			}
		}
	}
	if _, err := b.config.State.Commit(ctx, state...); err != nil {
		return Restored{}, err
	}
	for _, c := range state {
		if c.Key.Kind == "app" {
			restored.Apps = append(restored.Apps, c.Key.Name)
		}
	}
	for _, id := range volumes {
		restored.Volumes = append(restored.Volumes, id.String())
	}
	slices.Sort(restored.Apps)
	slices.Sort(restored.Volumes)
	return restored, nil
}

func (b *Backups) bringVolume(ctx context.Context, name string, r io.Reader) (id maru.VolumeID, err error) {
	if err := id.UnmarshalText([]byte(name)); err != nil {
		return id, maru.Errorf(maru.Invalid, "the backup has a volume %q: %w", name, err)
	}
	if b.config.Volumes == nil {
		return id, maru.Errorf(maru.Unsupported, "the backup has volumes, and here is no place for them")
	}
	if err := b.config.Volumes.ImportVolume(ctx, id, r); err != nil {
		return id, maru.Errorf(maru.KindOf(err), "restore volume %s: %w", id, err)
	}
	return id, nil
}

func (b *Backups) bringRepository(ctx context.Context, name string, r io.Reader) (id maru.RepositoryID, err error) {
	id.Project, id.App, _ = strings.Cut(name, "/")
	if b.config.Repositories == nil {
		return id, maru.Errorf(maru.Unsupported, "the backup has Git repositories, and here is no place for them")
	}
	if err := b.config.Repositories.Import(ctx, id, r); err != nil {
		return id, maru.Errorf(maru.KindOf(err), "restore the Git repository %s: %w", name, err)
	}
	return id, nil
}

// bringOther takes in what does no harm when something later fails. Kinds that this Maru does not
// know are of a later one, which would not have needed them to start the apps.
func (b *Backups) bringOther(ctx context.Context, s archive.Section, r io.Reader) error {
	switch s.Kind {
	case sectionKeys:
		keeper, ok := b.config.Keepers[s.Name]
		if !ok {
			return nil
		}
		exported, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return keeper.Adopt(exported)
	case sectionImages:
		if b.config.Images == nil {
			return nil
		}
		_, err := b.config.Images.Load(ctx, r)
		return err
	}
	return nil
}

// undo removes volumes and repositories that were brought, also when the caller has gone.
func (b *Backups) undo(ctx context.Context, volumes []maru.VolumeID, repositories []maru.RepositoryID) error {
	var failed []error
	for _, id := range repositories {
		failed = append(failed, b.config.Repositories.Remove(id))
	}
	for _, id := range volumes {
		failed = append(failed, b.config.Volumes.RemoveVolume(context.WithoutCancel(ctx), id))
	}
	return errors.Join(failed...)
}
