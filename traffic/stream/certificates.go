package stream

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// certificatesName is that of the file in memory that certificates are kept in.
const certificatesName = "certificates"

func (s *Subscriber) keepCertificates(c []maru.Certificate) {
	if s.cfg.Keep == nil {
		return
	}
	f, err := sealed(certificatesName, maru.Raw(c))
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
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Whoever had the file before may have left its offset anywhere.
	data, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
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

// sealed makes a file in memory that nobody can change any more. A supervisor that starts anew knows it by
// the beginning of its name.
func sealed(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("maru:"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal a file in memory: %w", err)
	}
	return f, nil
}
