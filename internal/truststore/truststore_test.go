package truststore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func root(t *testing.T, isCA bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// recorder notes the programs that are run, and runs none.
type recorder struct{ commands []string }

func (r *recorder) run(_ context.Context, name string, args ...string) ([]byte, error) {
	r.commands = append(r.commands, strings.Join(append([]string{name}, args...), " "))
	return nil, nil
}

func folder(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSystem(t *testing.T) {
	first, second := root(t, true), root(t, true)
	for _, d := range distributions {
		top, r := t.TempDir(), &recorder{}
		folder(t, top, d.folder)
		s := New(Config{Root: top, Homes: []string{}, Run: r.run})
		path := filepath.Join(top, d.folder, "maru.crt")
		for step, c := range []struct {
			certificate []byte // nil: remove
			done, runs  int
		}{{first, 1, 1}, {first, 1, 1}, {second, 1, 2}, {nil, 1, 3}, {nil, 0, 3}} {
			var report Report
			var err error
			if c.certificate != nil {
				report, err = s.Install(t.Context(), "maru", c.certificate)
			} else {
				report, err = s.Remove(t.Context(), "maru")
			}
			if err != nil || report.Err() != nil || len(report.Done) != c.done || len(r.commands) != c.runs {
				t.Errorf("%s, step %d: %+v, %v after %q", d.name, step, report, err, r.commands)
			}
			got, err := os.ReadFile(path)
			if string(got) != string(c.certificate) || (err == nil) != (c.certificate != nil) {
				t.Errorf("%s, step %d: the file has %d bytes, %v", d.name, step, len(got), err)
			}
		}
		if r.commands[0] != strings.Join(d.update, " ") {
			t.Errorf("%s: ran %q", d.name, r.commands)
		}
	}
}

func TestSystemFails(t *testing.T) {
	top := t.TempDir()
	folder(t, top, "usr/local/share/ca-certificates")
	s := New(Config{Root: top, Homes: []string{}, Run: func(context.Context, string, ...string) ([]byte, error) {
		return []byte("no room\n"), fmt.Errorf("exit status 1: %w", os.ErrPermission)
	}})
	report, err := s.Install(t.Context(), "maru", root(t, true))
	if err != nil || len(report.Failed) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := report.Err(); maru.HintOf(err) != "sudo maru trust" || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%v, hint %q", err, maru.HintOf(err))
	}
}

func TestInstallRefuses(t *testing.T) {
	s := New(Config{Root: t.TempDir(), Homes: []string{}})
	good := root(t, true)
	for name, certificate := range map[string][]byte{
		"":          nil,
		"leaf":      root(t, false),
		"two":       append(root(t, true), good...),
		"text":      []byte("hello"),
		"odd":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"other":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"../escape": good,
	} {
		if _, err := s.Install(t.Context(), name, certificate); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := s.Install(t.Context(), "maru", good); maru.KindOf(err) != maru.Unsupported || maru.HintOf(err) == "" {
		t.Errorf("nowhere to install: %v", err)
	}
}

func TestWithoutCertutil(t *testing.T) {
	top := t.TempDir()
	home := folder(t, top, "home")
	profile := folder(t, home, ".mozilla/firefox/abc.default")
	if err := os.WriteFile(filepath.Join(profile, "cert9.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder(t, home, ".mozilla/firefox/Crash Reports")
	s := New(Config{Root: top, Homes: []string{home}, Run: func(_ context.Context, name string, _ ...string) ([]byte, error) {
		return nil, &exec.Error{Name: name, Err: exec.ErrNotFound}
	}})
	report, err := s.Install(t.Context(), "maru", root(t, true))
	if err != nil || len(report.Failed) != 1 || report.Failed[0].Path != profile {
		t.Fatalf("%+v, %v", report, err)
	}
	if hint := maru.HintOf(report.Err()); !strings.Contains(hint, "libnss3-tools") {
		t.Errorf("hint %q", hint)
	}
}

// TestBrowsers uses real databases.
func TestBrowsers(t *testing.T) {
	if _, err := exec.LookPath(certutil); err != nil {
		t.Skip("certutil is not here")
	}
	top := t.TempDir()
	home := folder(t, top, "home")
	for _, file := range []string{filepath.Join(folder(t, top, "usr/bin"), "chromium")} {
		if err := os.WriteFile(file, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	firefox := folder(t, home, ".mozilla/firefox/abc.default")
	if out, err := run(t.Context(), certutil, "-d", "sql:"+firefox, "-N", "--empty-password"); err != nil {
		t.Fatal(string(out), err)
	}
	s := New(Config{Root: top, Homes: []string{home}})
	first, second := root(t, true), root(t, true)
	for step, c := range []struct {
		certificate []byte
		done        int
	}{{first, 2}, {first, 2}, {second, 2}, {nil, 2}, {nil, 0}} {
		var report Report
		var err error
		if c.certificate != nil {
			report, err = s.Install(t.Context(), "maru", c.certificate)
		} else {
			report, err = s.Remove(t.Context(), "maru")
		}
		if err != nil || report.Err() != nil || len(report.Done) != c.done {
			t.Errorf("step %d: %+v, %v", step, report, err)
		}
		for _, database := range []string{firefox, filepath.Join(home, ".pki/nssdb")} {
			present, err := s.listed(t.Context(), database, "maru", c.certificate)
			if err != nil || present.same != (c.certificate != nil) || present.any != (c.certificate != nil) {
				t.Errorf("step %d: %s has it: %+v, %v", step, database, present, err)
			}
		}
	}
}

// TestDebian uses the real program, in a root of its own.
func TestDebian(t *testing.T) {
	program, err := exec.LookPath("update-ca-certificates")
	if err != nil {
		t.Skip("update-ca-certificates is not here")
	}
	top := t.TempDir()
	local, bundle := folder(t, top, "usr/local/share/ca-certificates"), folder(t, top, "etc/ssl/certs")
	empty := filepath.Join(top, "ca-certificates.conf")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Root: top, Homes: []string{}, Run: func(ctx context.Context, _ string, args ...string) ([]byte, error) {
		return run(ctx, program, append(args, "--localcertsdir", local, "--certsdir", folder(t, top, "certs"),
			"--etccertsdir", bundle, "--certsconf", empty, "--hooksdir", folder(t, top, "hooks"))...)
	}})
	// Without any other certificate the program leaves the bundle as it is.
	if err := os.WriteFile(filepath.Join(local, "other.crt"), root(t, true), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate := root(t, true)
	report, err := s.Install(t.Context(), "maru", certificate)
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	all, err := os.ReadFile(filepath.Join(bundle, "ca-certificates.crt"))
	if err != nil || !strings.Contains(string(all), string(certificate)) {
		t.Errorf("the bundle has %d bytes, %v", len(all), err)
	}
	if report, err = s.Remove(t.Context(), "maru"); err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
	if all, err := os.ReadFile(filepath.Join(bundle, "ca-certificates.crt")); err != nil || strings.Contains(string(all), string(certificate)) {
		t.Errorf("still in the bundle, %v", err)
	}
	if _, err := os.Lstat(filepath.Join(bundle, "maru.pem")); !os.IsNotExist(err) {
		t.Errorf("a link is left, %v", err)
	}
}
