package stream

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/memfile"
)

// certificatesName is that of the file in memory that certificates are kept in.
const certificatesName = "certificates"

func (s *Subscriber) keepCertificates(c []maru.Certificate) {
	if s.cfg.Keep == nil {
		return
	}
	f, err := memfile.Seal(certificatesName, maru.Raw(c))
	if err == nil {
		err = s.cfg.Keep(certificatesName, f)
		s.hold(f)
	}
	if err != nil {
		s.log.Warn("certificates will not be there after a restart until the server is", "error", err)
	}
}

// hold leaves the file open for as long as the process lives, so that a supervisor that starts anew finds it.
func (s *Subscriber) hold(f *os.File) {
	if s.kept != nil {
		s.kept.Close()
	}
	s.kept = f
}

func (s *Subscriber) keptCertificates() ([]maru.Certificate, error) {
	if s.cfg.Kept == nil {
		return nil, nil
	}
	f, err := s.cfg.Kept(certificatesName)
	if err != nil || f == nil {
		return nil, err
	}
	s.hold(f)
	data, err := memfile.Read(f)
	if err != nil {
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
