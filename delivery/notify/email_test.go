package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/marucloud/maru"
)

// postOffice is a real mail server that takes what is handed in.
type postOffice struct {
	mu       sync.Mutex
	mails    []string
	envelope []string
	users    []string
}

func (p *postOffice) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{office: p}, nil }

type session struct {
	office   *postOffice
	envelope []string
	in       bool
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "opensesame" {
			return errors.New("no")
		}
		s.in = true
		s.office.mu.Lock()
		defer s.office.mu.Unlock()
		s.office.users = append(s.office.users, user)
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.in {
		return smtp.ErrAuthRequired
	}
	s.envelope = append(s.envelope, from)
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.envelope = append(s.envelope, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.office.mu.Lock()
	defer s.office.mu.Unlock()
	s.office.mails, s.office.envelope = append(s.office.mails, string(text)), s.envelope
	return nil
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// openOffice serves by STARTTLS, or with implicit by TLS from the start; without a certificate in the clear only.
func openOffice(t *testing.T, certificate *tls.Certificate, implicit bool) (*postOffice, string) {
	t.Helper()
	p := &postOffice{}
	server := smtp.NewServer(p)
	server.Domain, server.AllowInsecureAuth = "localhost", certificate == nil
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if certificate != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
		if implicit {
			listener = tls.NewListener(listener, server.TLSConfig)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return p, address
}

func selfSigned(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (r *rig) addEmail(server, password string) {
	r.t.Helper()
	_, _, err := r.Add(r.t.Context(), "ann", maru.Receiver{Name: "team", Kind: maru.ReceiverEmail, Private: true},
		maru.ReceiverTarget{To: []string{"ann@example.com", "Bob <bob@example.com>"}, From: "Maru <maru@example.com>", Server: server, Password: password})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestEmail(t *testing.T) {
	certificate, pool := selfSigned(t)
	for scheme, implicit := range map[string]bool{"smtp": false, "smtps": true} {
		t.Run(scheme, func(t *testing.T) {
			office, address := openOffice(t, certificate, implicit)
			r := begin(t, Config{Roots: pool})
			r.addEmail(scheme+"://maru@"+address, "opensesame")
			r.happen("run-failed", func(e *maru.Event) {
				e.Scope.App, e.Service, e.Message = "shop", "web", "ein Fehler: größer als erlaubt\r\n.\r\nQUIT\r\n"
			})
			until(t, "a mail", func() bool { office.mu.Lock(); defer office.mu.Unlock(); return len(office.mails) == 1 })
			office.mu.Lock()
			defer office.mu.Unlock()
			if got := strings.Join(office.envelope, " "); got != "maru@example.com ann@example.com bob@example.com" || office.users[0] != "maru" {
				t.Errorf("the envelope is %s, of %v", got, office.users)
			}
			m, err := mail.ReadMessage(strings.NewReader(office.mails[0]))
			if err != nil {
				t.Fatal(err)
			}
			title, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || title != "shop/web in production: a push failed" {
				t.Errorf("the subject is %q, %v", title, err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
			if err != nil || !strings.Contains(string(body), "größer als erlaubt") || !strings.Contains(string(body), "maru://host.example.com/default/production/shop") {
				t.Errorf("the body is %q, %v", body, err)
			}
		})
	}
}

func TestEmailRefuses(t *testing.T) {
	certificate, pool := selfSigned(t)
	trusted := begin(t, Config{Roots: pool})
	stranger := begin(t, Config{Roots: x509.NewCertPool()})
	_, secure := openOffice(t, certificate, false)
	_, clear := openOffice(t, nil, false)
	for name, c := range map[string]struct {
		r       *rig
		address string
		word    string
		says    string
	}{
		"a wrong password":            {trusted, secure, "wrong-secret", "can't be told"},
		"no password":                 {trusted, secure, "", "uthentic"},
		"an unknown certificate":      {stranger, secure, "opensesame", "certificate"},
		"a password without STARTTLS": {trusted, clear, "opensesame", "no STARTTLS"},
		"nobody there":                {trusted, "127.0.0.1:1", "opensesame", "refused"},
	} {
		c.r.addEmail("smtp://maru@"+c.address, c.word)
		err := c.r.Test(t.Context(), "ann", everywhere, "team")
		if err == nil || !strings.Contains(err.Error(), c.says) || c.word != "" && strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
