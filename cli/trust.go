package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/marucloud/maru"
)

const authorityName = "maru local authority"

// anchors are where Linux systems keep authorities that an administrator adds, and what to run then.
var anchors = []struct {
	folder  string
	refresh []string
}{
	{"/usr/local/share/ca-certificates", []string{"update-ca-certificates"}},           // Debian
	{"/etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}},       // Fedora
	{"/etc/ca-certificates/trust-source/anchors", []string{"trust", "extract-compat"}}, // Arch
}

// trust puts the certificate into the stores of this machine, or takes it out of them.
func (s *shell) trust(ctx context.Context, path string, undo bool) error {
	system, err := s.trustSystem(ctx, path, undo)
	if err != nil {
		return err
	}
	browsers, err := s.trustBrowsers(ctx, path, undo)
	if err != nil {
		return err
	}
	did := "trusted by"
	if undo {
		did = "taken out of"
	}
	if system {
		fmt.Fprintf(s.Stdout, "%s the system\n", did)
	}
	for _, store := range browsers {
		fmt.Fprintf(s.Stdout, "%s %s\n", did, store)
	}
	if !system && len(browsers) == 0 {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "no place for certificates was found on this machine"), "import "+path+" in the browser's settings")
	}
	return nil
}

func (s *shell) trustSystem(ctx context.Context, path string, undo bool) (bool, error) {
	if runtime.GOOS == "darwin" {
		verb := []string{"add-trusted-cert", "-r", "trustRoot", path}
		if undo {
			verb = []string{"remove-trusted-cert", path}
		}
		return true, s.command(ctx, "security", verb...)
	}
	for _, anchor := range anchors {
		if _, err := os.Stat(anchor.folder); err != nil {
			continue
		}
		target := filepath.Join(anchor.folder, "maru-local-authority.crt")
		err := placeFile(path, target, undo)
		if errors.Is(err, fs.ErrPermission) {
			return false, maru.WithHint(maru.Errorf(maru.Denied, "trust: %w", err), "run it with sudo")
		}
		if err != nil {
			return false, maru.Errorf(maru.Invalid, "trust: %w", err)
		}
		return true, s.command(ctx, anchor.refresh[0], anchor.refresh[1:]...)
	}
	return false, nil
}

func placeFile(from, target string, undo bool) error {
	if undo {
		if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(target, data, 0o644)
}

// trustBrowsers reaches the stores of Firefox and Chromium, with the certutil of NSS where it is installed.
func (s *shell) trustBrowsers(ctx context.Context, path string, undo bool) ([]string, error) {
	if _, err := exec.LookPath("certutil"); err != nil || runtime.GOOS == "windows" {
		return nil, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, nil
	}
	var done []string
	for _, pattern := range []string{".pki/nssdb", ".mozilla/firefox/*", "snap/firefox/common/.mozilla/firefox/*", "snap/chromium/current/.pki/nssdb"} {
		stores, _ := filepath.Glob(filepath.Join(home, pattern, "cert9.db"))
		for _, store := range stores {
			folder := "sql:" + filepath.Dir(store)
			args := []string{"-A", "-d", folder, "-t", "C,,", "-n", authorityName, "-i", path}
			if undo {
				args = []string{"-D", "-d", folder, "-n", authorityName}
			}
			if err := s.command(ctx, "certutil", args...); err != nil {
				return done, err
			}
			done = append(done, filepath.Dir(store))
		}
	}
	return done, nil
}

func (s *shell) command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return maru.Errorf(maru.Invalid, "%s: %w\n%s", name, err, out)
	}
	return nil
}
