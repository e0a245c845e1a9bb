// Package backup saves an installation as one encrypted file while it runs, and brings it back on a
// machine without apps: the state, the keys and the local authority, the Git repositories, the images that
// releases use, and the volumes.
//
// A backup is taken in this order: state, then Git repositories, then images, then volumes, each repository and
// each volume as it is at one moment: a commit that the state knows is there. It is restored in another: nothing
// before the whole file was read and found sound, and the state last, in one commit, because with it the apps start.
package backup

import (
	"context"
	"io"
	"iter"
	"os"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/archive"
)

// The kinds of section.
const (
	sectionState      = "state"      // one object a line, as JSON
	sectionKeys       = "keys"       // what Keeper.Export gave; its name tells of which keeper
	sectionRepository = "repository" // what Repositories.Export gave; its name is PROJECT/APP
	sectionImages     = "images"     // an OCI archive
	sectionVolume     = "volume"     // a tar stream; its name is the volume's
)

// State is a store that can be read as a whole.
type State interface {
	maru.Store
	All(ctx context.Context) iter.Seq2[maru.Object, error]
}

// Keeper has something that is not in the store, such as keys.
type Keeper struct {
	Export func() ([]byte, error)
	Adopt  func([]byte) error // idempotent
}

// Images saves images, and takes what it saved.
type Images interface {
	maru.ImageSaver
	Load(ctx context.Context, archive io.Reader) ([]maru.Image, error)
}

// Repositories are the Git repositories.
type Repositories interface {
	List() []maru.RepositoryID
	Export(ctx context.Context, id maru.RepositoryID, w io.Writer) error // NotFound, before anything is written, when there is none
	Import(ctx context.Context, id maru.RepositoryID, r io.Reader) error // Conflict when there is one
	Remove(id maru.RepositoryID) error
}

// Config says what to save. Everything but State is optional.
type Config struct {
	State        State
	Keepers      map[string]Keeper
	Repositories Repositories
	Volumes      maru.Volumes
	Images       Images
	References   func(context.Context) ([]string, error) // of the images to save
	Folder       string                                  // for a file while it is restored; "": the system's
	Version      string                                  // of this Maru
}

// Backups saves and restores. Its methods are safe for concurrent use.
type Backups struct{ config Config }

// New makes it.
func New(config Config) *Backups { return &Backups{config} }

// Backup writes the installation to w, encrypted by the passphrase. Volumes can be left out.
func (b *Backups) Backup(ctx context.Context, w io.Writer, passphrase string, volumes bool) error {
	return b.write(ctx, w, archive.Lock{Passphrase: passphrase}, volumes)
}

func (b *Backups) write(ctx context.Context, w io.Writer, lock archive.Lock, volumes bool) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	a, err := archive.NewWriter(w, lock, archive.Manifest{Version: b.config.Version, Host: host, Created: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := b.sections(ctx, a, volumes); err != nil {
		a.Fail(err)
	}
	return a.Close()
}

func (b *Backups) sections(ctx context.Context, a *archive.Writer, volumes bool) error {
	for _, name := range sorted(b.config.Keepers) {
		exported, err := b.config.Keepers[name].Export()
		if err != nil {
			return err
		}
		err = section(a, sectionKeys, name, func(w io.Writer) error {
			_, err := w.Write(exported)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := section(a, sectionState, "", func(w io.Writer) error { return writeState(ctx, b.config.State, w) }); err != nil {
		return err
	}
	if err := b.saveRepositories(ctx, a); err != nil {
		return err
	}
	if err := b.saveImages(ctx, a); err != nil {
		return err
	}
	if volumes && b.config.Volumes != nil {
		return b.saveVolumes(ctx, a)
	}
	return nil
}

func (b *Backups) saveRepositories(ctx context.Context, a *archive.Writer) error {
	if b.config.Repositories == nil {
		return nil
	}
	for _, id := range b.config.Repositories.List() {
		w := &lateSection{archive: a, section: archive.Section{Kind: sectionRepository, Name: id.String()}}
		err := b.config.Repositories.Export(ctx, id, w)
		if maru.KindOf(err) == maru.NotFound && w.WriteCloser == nil {
			continue // it was removed meanwhile
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return maru.Errorf(maru.KindOf(err), "back up the Git repository %s: %w", id, err)
		}
	}
	return nil
}

// lateSection is a section that begins with the first byte of it.
type lateSection struct {
	archive *archive.Writer
	section archive.Section
	io.WriteCloser
}

func (s *lateSection) Write(p []byte) (n int, err error) {
	if s.WriteCloser == nil {
		if s.WriteCloser, err = s.archive.Section(s.section); err != nil {
			return 0, err
		}
	}
	return s.WriteCloser.Write(p)
}

// Close ends the section, if it began.
func (s *lateSection) Close() error {
	if s.WriteCloser == nil {
		return nil
	}
	return s.WriteCloser.Close()
}

func (b *Backups) saveImages(ctx context.Context, a *archive.Writer) error {
	if b.config.Images == nil || b.config.References == nil {
		return nil
	}
	references, err := b.config.References(ctx)
	if err != nil || len(references) == 0 {
		return err
	}
	return section(a, sectionImages, "", func(w io.Writer) error { return b.config.Images.SaveImages(ctx, references, w) })
}

func (b *Backups) saveVolumes(ctx context.Context, a *archive.Writer) error {
	all, err := b.config.Volumes.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		err := section(a, sectionVolume, v.ID.String(), func(w io.Writer) error { return b.config.Volumes.ExportVolume(ctx, v.ID, w) })
		if err != nil {
			return maru.Errorf(maru.KindOf(err), "back up volume %s: %w", v.ID, err)
		}
	}
	return nil
}

func section(a *archive.Writer, kind, name string, write func(io.Writer) error) error {
	w, err := a.Section(archive.Section{Kind: kind, Name: name})
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err
	}
	return w.Close()
}
