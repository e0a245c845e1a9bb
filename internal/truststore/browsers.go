package truststore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
)

// databases are where browsers keep their authorities, below a user's home.
var databases = []struct{ name, pattern string }{
	{"Chromium", ".pki/nssdb"},
	{"Chromium (snap)", "snap/chromium/current/.pki/nssdb"},
	{"Firefox", ".mozilla/firefox/*"},
	{"Firefox", ".config/mozilla/firefox/*"},
	{"Firefox (snap)", "snap/firefox/common/.mozilla/firefox/*"},
	{"Firefox (Flatpak)", ".var/app/org.mozilla.firefox/.mozilla/firefox/*"},
}

// chromium are names of programs that use the user's shared database, which is made if one of them is
// installed.
var chromium = []string{
	"usr/bin/chromium", "usr/bin/chromium-browser", "usr/bin/google-chrome", "usr/bin/google-chrome-stable",
	"usr/bin/brave-browser", "usr/bin/microsoft-edge",
}

// certutil is the program that changes such databases.
const certutil = "certutil"

// browsers puts the certificate into the browsers' databases; nil takes it out.
func (s *Store) browsers(ctx context.Context, name string, certificate []byte, report *Report) {
	for _, home := range s.homes {
		if certificate != nil {
			if err := s.makeDatabase(ctx, home); err != nil {
				report.Failed = append(report.Failed, Failure{Place{"Chromium", filepath.Join(home, ".pki/nssdb")}, s.explained(err)})
			}
		}
		for _, d := range databases {
			folders, err := filepath.Glob(filepath.Join(home, d.pattern))
			if err != nil {
				continue // the home's name has a bracket: no pattern, no browsers
			}
			for _, folder := range folders {
				if exists(filepath.Join(folder, "cert9.db")) {
					s.browser(ctx, Place{d.name, folder}, name, certificate, report)
				}
			}
		}
	}
}

func (s *Store) browser(ctx context.Context, place Place, name string, certificate []byte, report *Report) {
	present, err := s.listed(ctx, place.Path, name, certificate)
	switch {
	case err != nil:
	case certificate == nil && !present.any:
		return
	case certificate != nil && present.same:
		report.Done = append(report.Done, place)
		return
	}
	for err == nil && present.any { // a name may be there several times
		if _, err = s.certutil(ctx, place.Path, "-D", "-n", name); err == nil {
			present, err = s.listed(ctx, place.Path, name, certificate)
		}
	}
	if err == nil && certificate != nil {
		err = s.add(ctx, place.Path, name, certificate)
	}
	if err != nil {
		report.Failed = append(report.Failed, Failure{place, s.explained(err)})
		return
	}
	report.Done = append(report.Done, place)
}

// presence tells whether a database has a certificate of the name, and whether it is just this one.
type presence struct{ any, same bool }

func (s *Store) listed(ctx context.Context, folder, name string, certificate []byte) (presence, error) {
	out, err := s.certutil(ctx, folder, "-L", "-n", name, "-a")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return presence{}, nil // there is none of the name
	}
	if err != nil {
		return presence{}, err
	}
	return presence{any: true, same: bytes.Equal(plain(out), plain(certificate))}, nil
}

// plain takes line ends out, of which certutil has others.
func plain(text []byte) []byte {
	return bytes.Join(bytes.Fields(text), nil)
}

func (s *Store) add(ctx context.Context, folder, name string, certificate []byte) error {
	f, err := os.CreateTemp("", "maru-authority-*.pem")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.Write(certificate); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = s.certutil(ctx, folder, "-A", "-t", "C,,", "-n", name, "-i", f.Name())
	return err
}

// makeDatabase makes the database that Chromium would make at its first start.
func (s *Store) makeDatabase(ctx context.Context, home string) error {
	folder := filepath.Join(home, ".pki", "nssdb")
	if exists(filepath.Join(folder, "cert9.db")) || !owned(home) {
		return nil
	}
	installed := false
	for _, program := range chromium {
		installed = installed || exists(s.path(program))
	}
	if !installed {
		return nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	_, err := s.certutil(ctx, folder, "-N", "--empty-password")
	return err
}

func (s *Store) certutil(ctx context.Context, folder string, args ...string) ([]byte, error) {
	out, err := s.run(ctx, certutil, append([]string{"-d", "sql:" + folder}, args...)...)
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", certutil, err, strings.TrimSpace(string(out)))
	}
	return out, nil
}

// explained adds what to do when certutil is missing.
func (s *Store) explained(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "%w", err),
			"install certutil (Debian: libnss3-tools, Fedora: nss-tools, Arch: nss) and run maru trust again, or import the certificate in the browser's settings")
	}
	return denied(err)
}
