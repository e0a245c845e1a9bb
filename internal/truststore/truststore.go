// Package truststore makes this machine trust a certificate authority, and undoes it: in the
// system's store, which most programs use, and in the databases of Firefox and Chromium, which have
// their own.
package truststore

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"

	"github.com/marucloud/maru"
)

// Place is one store of trusted authorities.
type Place struct {
	Name string // for people, such as "Debian's store" or a browser's database
	Path string // of the file or folder that was changed
}

// Report tells what was done.
type Report struct {
	Done   []Place // sorted as they were tried
	Failed []Failure
}

// Failure is a place that is there and could not be changed. The error may have a hint.
type Failure struct {
	Place
	Err error
}

// Err gives the failures as one error, or nil. Its hint is the first that one has.
func (r Report) Err() error {
	var all []error
	hint := ""
	for _, f := range r.Failed {
		all = append(all, maru.Errorf(maru.KindOf(f.Err), "%s: %w", f.Name, f.Err))
		if hint == "" {
			hint = maru.HintOf(f.Err)
		}
	}
	err := errors.Join(all...)
	if err != nil && hint != "" {
		return maru.WithHint(err, hint)
	}
	return err
}

// Config says where to look. The zero value is this machine and the user who runs it.
type Config struct {
	Root  string   // folder taken for /
	Homes []string // of the users whose browsers are told; nil: the present user's, and with sudo that of who called it
	Run   Runner   // runs a program; nil: os/exec
}

// Runner runs a program and gives what it wrote.
type Runner func(ctx context.Context, name string, args ...string) ([]byte, error)

// Store is the stores of one machine.
type Store struct {
	root  string
	homes []string
	run   Runner
}

// New makes a store of trust.
func New(config Config) *Store {
	s := &Store{root: config.Root, homes: config.Homes, run: config.Run}
	if s.root == "" {
		s.root = "/"
	}
	if s.homes == nil {
		s.homes = homes()
	}
	if s.run == nil {
		s.run = run
	}
	return s
}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}

// homes are those of the user, and of who became root by sudo.
func homes() []string {
	var all []string
	if home, err := os.UserHomeDir(); err == nil {
		all = append(all, home)
	}
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		if u, err := user.Lookup(name); err == nil {
			all = append(all, u.HomeDir)
		}
	}
	return all
}

// Install makes the machine trust the authority, whose certificate is in PEM, under the name, which
// is one word of a-z, 0-9 and "-". An earlier one of the name is replaced. The error is for what can't
// be done anywhere; what fails at one place is in the report.
func (s *Store) Install(ctx context.Context, name string, certificate []byte) (Report, error) {
	if err := check(name, certificate); err != nil {
		return Report{}, err
	}
	var report Report
	s.system(ctx, name, certificate, &report)
	s.browsers(ctx, name, certificate, &report)
	if len(report.Done)+len(report.Failed) == 0 {
		return report, maru.WithHint(maru.Errorf(maru.Unsupported, "no store of trusted authorities was found on this machine"),
			"save the certificate with 'maru trust --print' and add it by hand where your programs look")
	}
	return report, nil
}

// Remove undoes Install. Places that do not have the authority are left alone.
func (s *Store) Remove(ctx context.Context, name string) (Report, error) {
	if err := maru.CheckName("authority", name); err != nil {
		return Report{}, err
	}
	var report Report
	s.system(ctx, name, nil, &report)
	s.browsers(ctx, name, nil, &report)
	return report, nil
}

func check(name string, certificate []byte) error {
	if err := maru.CheckName("authority", name); err != nil {
		return err
	}
	block, rest := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return maru.Errorf(maru.Invalid, "this is not one certificate in PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return maru.Errorf(maru.Invalid, "certificate of the authority: %w", err)
	}
	if !parsed.IsCA {
		return maru.Errorf(maru.Invalid, "the certificate is not one of an authority")
	}
	return nil
}

// path gives a path below the root.
func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.root}, elements...)...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// denied adds what to do when a file may not be written.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return maru.WithHint(maru.Errorf(maru.Denied, "%w", err), "sudo maru trust")
	}
	return err
}
