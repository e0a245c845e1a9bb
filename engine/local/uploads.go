package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// uploadRef begins the names that containerd has for uploads.
const uploadRef = "maru-upload/"

// uploadIdle is how long an upload's writer stays open between two pieces. To open it again takes reading all
// that is there, for the digest.
const uploadIdle = time.Minute

// uploadPiece is how much is taken between two looks at the disk, in bytes.
const uploadPiece = 64 << 20

// upload is one that is being added to, or was lately.
type upload struct {
	busy   bool
	writer content.Writer // nil: not open
	idle   *time.Timer    // closes it
}

// acquire gives an upload's writer to one caller alone, until release. Without begin there has to be one.
func (s *repositories) acquire(ctx context.Context, name string, begin bool) (u *upload, release func(), err error) {
	s.mu.Lock()
	u = s.uploads[name]
	if u == nil {
		u = &upload{}
		s.uploads[name] = u
	}
	if u.busy {
		s.mu.Unlock()
		return nil, nil, maru.Errorf(maru.Conflict, "the upload is being added to")
	}
	u.busy = true
	if u.idle != nil {
		u.idle.Stop()
	}
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.busy = false
		if u.writer == nil {
			delete(s.uploads, name)
			return
		}
		u.idle = time.AfterFunc(uploadIdle, func() { s.close(name, u) })
	}
	if _, err := s.uploaded(ctx, name); err != nil {
		s.shut(u) // it was forgotten meanwhile
		if !begin || maru.KindOf(err) != maru.NotFound {
			release()
			return nil, nil, err
		}
	}
	if u.writer == nil {
		// The writer outlives the call.
		u.writer, err = s.client.ContentStore().Writer(context.WithoutCancel(ctx), content.WithRef(uploadRef+name))
		if err != nil {
			release()
			return nil, nil, fmt.Errorf("upload: %w", err)
		}
	}
	return u, release, nil
}

// close closes an upload that nobody adds to.
func (s *repositories) close(name string, u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.busy || s.uploads[name] != u {
		return
	}
	s.shut(u)
	delete(s.uploads, name)
}

func (s *repositories) shut(u *upload) {
	if u.writer == nil {
		return
	}
	if err := u.writer.Close(); err != nil {
		s.log.Warn("close an upload", "error", err)
	}
	u.writer = nil
}

// stop closes all uploads. They go on when somebody adds to them.
func (s *repositories) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.uploads {
		if u.busy {
			continue
		}
		if u.idle != nil {
			u.idle.Stop()
		}
		s.shut(u)
		delete(s.uploads, name)
	}
}

// uploaded tells how much there is of an upload. One that is too old is forgotten.
func (s *repositories) uploaded(ctx context.Context, name string) (int64, error) {
	status, err := s.client.ContentStore().Status(ctx, uploadRef+name)
	if err == nil && time.Since(status.StartedAt) > maru.UploadLife {
		if err := s.client.ContentStore().Abort(ctx, uploadRef+name); err != nil && !errdefs.IsNotFound(err) {
			return 0, fmt.Errorf("forget an upload: %w", err)
		}
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return 0, absent(err, "upload "+name)
	}
	return status.Offset, nil
}

// add adds to an upload.
func (s *repositories) add(ctx context.Context, name string, offset int64, r io.Reader) (int64, error) {
	u, release, err := s.acquire(ctx, name, offset == 0)
	if err != nil {
		return 0, err
	}
	defer release()
	status, err := u.writer.Status()
	if err != nil {
		return 0, fmt.Errorf("upload: %w", err)
	}
	size := status.Offset
	if size != offset {
		return size, maru.Errorf(maru.Conflict, "the upload has %d bytes: it does not go on at %d", size, offset)
	}
	for {
		if err := s.room(); err != nil {
			return size, err
		}
		n, err := io.Copy(checkedWriter{u.writer}, io.LimitReader(r, uploadPiece))
		size += n
		var write *writeError
		switch {
		case errors.Is(err, unix.ENOSPC):
			return size, s.tooFull()
		case errors.As(err, &write):
			return size, fmt.Errorf("upload: %w", err)
		case err != nil:
			return size, maru.Errorf(maru.Interrupted, "upload: %w", err)
		case n < uploadPiece:
			return size, nil
		}
	}
}

// checkedWriter tells its own errors from those of who is read from.
type checkedWriter struct{ io.Writer }

type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

func (w checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}

// room tells whether the disk has room for more.
func (s *repositories) room() error {
	var disk unix.Statfs_t
	if err := unix.Statfs(s.folder, &disk); err != nil {
		return nil //nolint:nilerr // then writing tells
	}
	if disk.Blocks > 0 && 1-float64(disk.Bavail)/float64(disk.Blocks) >= s.full {
		return s.tooFull()
	}
	return nil
}

func (s *repositories) tooFull() error {
	return maru.WithHint(maru.Errorf(maru.Exhausted, "the disk of %s is nearly full: nothing more is taken", s.folder),
		"delete images from the registry, or make room with `maru image prune`")
}

// commit makes an upload content of a repository.
func (s *repositories) commit(ctx context.Context, name, repository, reference string) error {
	u, release, err := s.acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer release()
	if actual := u.writer.Digest().String(); actual != reference {
		return errors.Join(maru.Errorf(maru.Invalid, "what was uploaded is %s, not %s", actual, reference), s.abort(ctx, name, u))
	}
	d := digest.Digest(reference)
	// What is there already, unused, must not be collected before it has its labels.
	leased, done, err := s.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	writer := u.writer
	u.writer = nil // whatever comes of it, it is closed
	err = writer.Commit(leased, 0, d, content.WithLabels(membership(repository)))
	_ = writer.Close()
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep %s: %w", d, err)
	}
	there := err != nil
	if err := atomicfile.SyncDir(s.blobs()); err != nil {
		return fmt.Errorf("keep %s: %w", d, err)
	}
	if !there {
		return nil
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	_, err = s.label(ctx, d, membership(repository))
	return err
}

// abort forgets an upload that the caller has.
func (s *repositories) abort(ctx context.Context, name string, u *upload) error {
	s.shut(u)
	if err := s.client.ContentStore().Abort(ctx, uploadRef+name); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("forget an upload: %w", err)
	}
	return nil
}

// drop forgets an upload.
func (s *repositories) drop(ctx context.Context, name string) error {
	u, release, err := s.acquire(ctx, name, false)
	if err != nil {
		return err
	}
	defer release()
	return s.abort(ctx, name, u)
}

// AppendUpload implements [maru.Uploads].
func (e *Engine) AppendUpload(ctx context.Context, upload string, offset int64, r io.Reader) (int64, error) {
	if err := e.await(ctx); err != nil {
		return 0, err
	}
	return e.images.repositories.add(inNamespace(ctx), upload, offset, r)
}

// UploadSize implements [maru.Uploads].
func (e *Engine) UploadSize(ctx context.Context, upload string) (int64, error) {
	if err := e.await(ctx); err != nil {
		return 0, err
	}
	return e.images.repositories.uploaded(inNamespace(ctx), upload)
}

// CommitUpload implements [maru.Uploads].
func (e *Engine) CommitUpload(ctx context.Context, upload, repository, digest string) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.images.repositories.commit(inNamespace(ctx), upload, repository, digest)
}

// DropUpload implements [maru.Uploads].
func (e *Engine) DropUpload(ctx context.Context, upload string) error {
	if err := e.await(ctx); err != nil {
		return err
	}
	return e.images.repositories.drop(inNamespace(ctx), upload)
}
