package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/url"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// mailServer is where e-mail is handed in.
type mailServer struct {
	host, port, user string
	implicit         bool // TLS from the start
}

func mailServerOf(address string) (mailServer, error) {
	u, err := url.Parse(address)
	hint := "it looks like smtp://user@mail.example.com:587, or smtps:// for TLS from the start"
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return mailServer{}, maru.WithHint(maru.Errorf(maru.Invalid, "that is no address of a mail server"), hint)
	}
	if _, has := u.User.Password(); has {
		return mailServer{}, maru.WithHint(maru.Errorf(maru.Invalid, "the mail server's address has a password in it"), "give it by --password-file")
	}
	s := mailServer{host: u.Hostname(), port: u.Port(), user: u.User.Username(), implicit: u.Scheme == "smtps"}
	if s.port == "" {
		s.port = map[bool]string{false: "587", true: "465"}[s.implicit]
	}
	return s, nil
}

// email hands a message in at the mail server. It goes in the clear only to a private address, without a password,
// when the server can do no better.
func (n *Notifier) email(ctx context.Context, r maru.Receiver, t maru.ReceiverTarget, m message) error {
	server, err := mailServerOf(t.Server)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sendTime, maru.Errorf(maru.Unavailable, "the mail server took too long"))
	defer cancel()
	conn, err := dialer(r.Private).DialContext(ctx, "tcp", net.JoinHostPort(server.host, server.port))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	settings := n.tls()
	settings.ServerName = server.host
	if server.implicit {
		conn = tls.Client(conn, settings)
	}
	c, err := smtp.NewClient(conn, server.host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Hello(n.cfg.Host); err != nil {
		return err
	}
	if !server.implicit {
		switch offered, _ := c.Extension("STARTTLS"); {
		case offered:
			if err := c.StartTLS(settings); err != nil {
				return err
			}
		case !r.Private || t.Password != "":
			return maru.Errorf(maru.Denied, "the mail server offers no STARTTLS")
		}
	}
	if t.Password != "" {
		if err := c.Auth(auth(c, server, t.Password)); err != nil {
			return err
		}
	}
	return hand(c, t, m.mail(n.cfg.Host, t))
}

// auth is by PLAIN (RFC 4616), or LOGIN where that is all there is.
func auth(c *smtp.Client, server mailServer, password string) smtp.Auth {
	if _, kinds := c.Extension("AUTH"); !strings.Contains(" "+kinds+" ", " PLAIN ") && strings.Contains(" "+kinds+" ", " LOGIN ") {
		return login{server.user, password}
	}
	return smtp.PlainAuth("", server.user, password, server.host)
}

// login is the LOGIN mechanism, which asks for the user and then for the password.
type login struct{ user, password string }

func (l login) Start(s *smtp.ServerInfo) (string, []byte, error) {
	if !s.TLS {
		return "", nil, maru.Errorf(maru.Denied, "the connection is not encrypted")
	}
	return "LOGIN", nil, nil
}

func (l login) Next(asked []byte, more bool) ([]byte, error) {
	switch text := strings.ToLower(string(asked)); {
	case !more:
		return nil, nil
	case strings.HasPrefix(text, "user"):
		return []byte(l.user), nil
	case strings.HasPrefix(text, "pass"):
		return []byte(l.password), nil
	}
	return nil, maru.Errorf(maru.Unsupported, "the mail server asks for what LOGIN does not have")
}

// hand gives the message to the server, which has it when it returns nil.
func hand(c *smtp.Client, t maru.ReceiverTarget, data []byte) error {
	from, err := mail.ParseAddress(t.From)
	if err != nil {
		return maru.Errorf(maru.Invalid, "the sender's address can't be read")
	}
	if err := c.Mail(from.Address); err != nil {
		return err
	}
	for _, to := range t.To {
		address, err := mail.ParseAddress(to)
		if err != nil {
			return maru.Errorf(maru.Invalid, "a receiver's address can't be read")
		}
		if err := c.Rcpt(address.Address); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // it has the message
	return nil
}

// mail writes the message as RFC 5322 and MIME have it.
func (m message) mail(host string, t maru.ReceiverTarget) []byte {
	var b bytes.Buffer
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	line("From", t.From)
	line("To", strings.Join(t.To, ", "))
	line("Subject", mime.QEncoding.Encode("utf-8", strings.Join(strings.Fields(subject(m.Event)), " ")))
	line("Date", m.Event.Time.UTC().Format(time.RFC1123Z))
	line("Message-ID", "<"+m.id()+"@"+host+">")
	line("Auto-Submitted", "auto-generated")
	line("MIME-Version", "1.0")
	line("Content-Type", "text/plain; charset=utf-8")
	line("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	fmt.Fprintf(w, "%s\n\n%s\nby %s at %s\n", m.Event.Message, maru.EventSource(host, m.Event.Scope), orMaru(m.Event.By), m.Event.Time.UTC().Format(time.RFC3339))
	_ = w.Close() // a buffer takes all
	return b.Bytes()
}

func orMaru(by string) string {
	if by == "" {
		return "maru"
	}
	return by
}
