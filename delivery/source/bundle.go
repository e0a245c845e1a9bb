package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/marucloud/maru"
)

// Export writes a repository as [Repositories.Import] takes it, with its refs as they are at one moment: a line with
// the name of the default branch, and a bundle (gitformat-bundle(5)) unless there is no ref.
func (s *Repositories) Export(ctx context.Context, id maru.RepositoryID, w io.Writer) error {
	dir, err := s.find(id)
	if err != nil {
		return err
	}
	standard, err := head(dir)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w, standard); err != nil {
		return err
	}
	if some, err := s.output(ctx, dir, "for-each-ref", "--count=1"); err != nil || some == "" {
		return err
	}
	cmd := s.git(ctx, dir, "bundle", "create", "--quiet", "-", "--all")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &errs
	if err := cmd.Run(); err != nil {
		return gitError("bundle", err, errs.String())
	}
	return nil
}

// Import makes a repository of what [Repositories.Export] wrote. Errors: Conflict when there is one, Invalid.
func (s *Repositories) Import(ctx context.Context, id maru.RepositoryID, r io.Reader) (err error) {
	if err := id.Validate(); err != nil {
		return err
	}
	if s.Exists(id) {
		return maru.Errorf(maru.Conflict, "there is a Git repository %s already", id)
	}
	from := bufio.NewReader(r)
	standard, err := from.ReadString('\n')
	if err != nil {
		return maru.Errorf(maru.Invalid, "the Git repository %s does not begin with its default branch: %w", id, err)
	}
	bundle, err := os.CreateTemp(s.incoming(), "bundle-*")
	if err != nil {
		return fmt.Errorf("restore the Git repository %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, bundle.Close(), os.Remove(bundle.Name())) }()
	size, err := io.Copy(bundle, from)
	if err != nil {
		return fmt.Errorf("restore the Git repository %s: %w", id, err)
	}
	return s.make(ctx, id, strings.TrimSuffix(standard, "\n"), func(dir string) error {
		if size == 0 {
			return nil
		}
		_, err := s.output(ctx, dir, "fetch", "--quiet", "--no-write-fetch-head", bundle.Name(), "+refs/*:refs/*")
		return err
	})
}
