package truststore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/marucloud/maru/internal/atomicfile"
)

// distribution is how a family of systems keeps its authorities: a folder that is the
// administrator's, and a program that is run after a change there.
type distribution struct {
	name, folder string
	update       []string
	forget       []string // arguments besides when a certificate was taken out
}

var distributions = []distribution{
	{"the system's store (Fedora)", "etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}, nil},
	{"the system's store (Debian)", "usr/local/share/ca-certificates", []string{"update-ca-certificates"}, []string{"--fresh"}},
	{"the system's store (Arch)", "etc/ca-certificates/trust-source/anchors", []string{"trust", "extract-compat"}, nil},
	{"the system's store (openSUSE)", "etc/pki/trust/anchors", []string{"update-ca-certificates"}, nil},
}

// system puts the certificate into the system's store; nil takes it out.
func (s *Store) system(ctx context.Context, name string, certificate []byte, report *Report) {
	for _, d := range distributions {
		if !exists(s.path(d.folder)) {
			continue
		}
		place := Place{Name: d.name, Path: s.path(d.folder, name+".crt")}
		changed, err := replace(place.Path, certificate)
		if err == nil && changed {
			err = s.update(ctx, d, certificate == nil)
		}
		switch {
		case err != nil:
			report.Failed = append(report.Failed, Failure{place, denied(err)})
		case changed || certificate != nil:
			report.Done = append(report.Done, place)
		}
		return
	}
}

// replace writes the file, or removes it, and tells whether that changed anything.
func replace(path string, content []byte) (changed bool, err error) {
	before, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	if content == nil {
		return err == nil, atomicfile.Remove(path)
	}
	if err == nil && bytes.Equal(before, content) {
		return false, nil
	}
	return true, atomicfile.Write(path, content, 0o644)
}

func (s *Store) update(ctx context.Context, d distribution, forget bool) error {
	command := slices.Clone(d.update)
	if forget {
		command = append(command, d.forget...)
	}
	out, err := s.run(ctx, command[0], command[1:]...)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
