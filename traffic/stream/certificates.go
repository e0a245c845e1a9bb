package stream

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/memfile"
)

// Names of the files in memory that outlive the process.
const (
	certificatesName = "certificates"
	secretsName      = "secrets"
)

func (s *Subscriber) keepCertificates(c []maru.Certificate) {
	if err := s.remember(certificatesName, c); err != nil {
		s.log.Warn("certificates will not be there after a restart until the server is", "error", err)
	}
}

// remember puts a value into a file in memory.
func (s *Subscriber) remember(name string, value any) error {
	if s.cfg.Keep == nil {
		return nil
	}
	f, err := memfile.Seal(name, maru.Raw(value))
	if err == nil {
		err = s.cfg.Keep(name, f)
		s.hold(name, f)
	}
	return err
}

// hold leaves the file open for as long as the process lives, so that a supervisor that starts anew finds it.
func (s *Subscriber) hold(name string, f *os.File) {
	if had := s.kept[name]; had != nil {
		had.Close()
	}
	if s.kept == nil {
		s.kept = map[string]*os.File{}
	}
	s.kept[name] = f
}

// recall gives what the process before remembered; nil for nothing.
func (s *Subscriber) recall(name string) ([]byte, error) {
	if s.cfg.Kept == nil {
		return nil, nil
	}
	f, err := s.cfg.Kept(name)
	if err != nil || f == nil {
		return nil, err
	}
	s.hold(name, f)
	return memfile.Read(f)
}

func (s *Subscriber) keptCertificates() ([]maru.Certificate, error) {
	data, err := s.recall(certificatesName)
	if err != nil || data == nil {
		return nil, err
	}
	return decodeCertificates(data)
}

func decodeCertificates(data []byte) ([]maru.Certificate, error) {
	var c []maru.Certificate
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("kept certificates: %w", err)
	}
	return c, nil
}
