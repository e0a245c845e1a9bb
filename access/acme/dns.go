package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"github.com/marucloud/maru"
)

const (
	commandTime = 2 * time.Minute
	recordTTL   = 60 // seconds
	seenWithin  = time.Minute
	lookEvery   = time.Second
)

// DNS puts TXT records into a zone, and takes them out again. Name is a whole one, with a dot at its end.
type DNS interface {
	Put(ctx context.Context, name, value string) error
	Take(ctx context.Context, name, value string) error
}

// ParseDNS reads how records are changed: the path of a program, or
// rfc2136://[KEYNAME@]SERVER[:PORT][/ZONE][?secret=FILE&algorithm=hmac-sha256].
func ParseDNS(text string) (DNS, error) {
	if !strings.HasPrefix(text, "rfc2136:") {
		if info, err := os.Stat(text); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--acme-dns: %s is no program that can be run", text),
				"give the path of a program, or rfc2136://KEYNAME@SERVER/ZONE?secret=FILE")
		}
		return Command{text}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, maru.Errorf(maru.Invalid, "--acme-dns: %q is not rfc2136://KEYNAME@SERVER/ZONE?secret=FILE", text)
	}
	d := Update{Server: u.Host, Zone: dns.Fqdn(strings.Trim(u.Path, "/")), Algorithm: dns.HmacSHA256}
	if u.Port() == "" {
		d.Server = net.JoinHostPort(u.Hostname(), "53")
	}
	if d.Zone == "." {
		d.Zone = ""
	}
	if name := u.User.Username(); name != "" {
		secret, err := os.ReadFile(u.Query().Get("secret"))
		if err != nil {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--acme-dns: the key's secret: %w", err), "write it, in base64, into a file: ?secret=FILE")
		}
		d.Key, d.Secret = dns.Fqdn(name), strings.TrimSpace(string(secret))
	}
	if algorithm := u.Query().Get("algorithm"); algorithm != "" {
		d.Algorithm = dns.Fqdn(algorithm)
	}
	return d, nil
}

// Command changes records by a program, which is run as PROGRAM put NAME VALUE, and with take instead of
// put afterwards. It returns when the zone's servers have the record.
type Command struct{ Program string }

// Put runs the program.
func (c Command) Put(ctx context.Context, name, value string) error {
	return c.run(ctx, "put", name, value)
}

// Take runs the program.
func (c Command) Take(ctx context.Context, name, value string) error {
	return c.run(ctx, "take", name, value)
}

func (c Command) run(ctx context.Context, what, name, value string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("it did not end within %s", commandTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Program, what, name, value)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s %s: %w: %s", c.Program, what, name, err, strings.TrimSpace(string(out[:min(len(out), 500)])))
	}
	return nil
}

// Update changes records by dynamic updates (RFC 2136), signed with a key (RFC 8945) if it has one.
type Update struct {
	Server                 string // with its port
	Zone                   string // "": the server is asked
	Key, Secret, Algorithm string // Secret in base64
}

// Put adds the record, and waits until the server gives it.
func (u Update) Put(ctx context.Context, name, value string) error {
	if err := u.change(ctx, name, func(m *dns.Msg, rr dns.RR) { m.Insert([]dns.RR{rr}) }, value); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, seenWithin, fmt.Errorf("%s does not give the record that it took", u.Server))
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !u.gives(ctx, name, value) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Take removes the record.
func (u Update) Take(ctx context.Context, name, value string) error {
	return u.change(ctx, name, func(m *dns.Msg, rr dns.RR) { m.Remove([]dns.RR{rr}) }, value)
}

func (u Update) change(ctx context.Context, name string, change func(*dns.Msg, dns.RR), value string) error {
	zone, err := u.zone(ctx, name)
	if err != nil {
		return err
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	change(m, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL}, Txt: []string{value}})
	c := &dns.Client{Net: "tcp", Timeout: requestTime}
	if u.Key != "" {
		c.TsigSecret = map[string]string{u.Key: u.Secret}
		m.SetTsig(u.Key, u.Algorithm, 300, time.Now().Unix())
	}
	answer, _, err := c.ExchangeContext(ctx, m, u.Server)
	if err != nil {
		return fmt.Errorf("update %s at %s: %w", name, u.Server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update %s at %s: it answers %s", name, u.Server, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// zone finds the zone that a name is in.
func (u Update) zone(ctx context.Context, name string) (string, error) {
	if u.Zone != "" {
		return u.Zone, nil
	}
	for _, start := range dns.Split(name) {
		m := new(dns.Msg)
		m.SetQuestion(name[start:], dns.TypeSOA)
		answer, _, err := (&dns.Client{Net: "tcp", Timeout: requestTime}).ExchangeContext(ctx, m, u.Server)
		if err != nil {
			return "", fmt.Errorf("find the zone of %s at %s: %w", name, u.Server, err)
		}
		for _, rr := range answer.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				return rr.Header().Name, nil
			}
		}
	}
	return "", errors.New(u.Server + " has no zone for " + name)
}

func (u Update) gives(ctx context.Context, name, value string) bool {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	answer, _, err := (&dns.Client{Net: "tcp", Timeout: requestTime}).ExchangeContext(ctx, m, u.Server)
	if err != nil {
		return false
	}
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok && strings.Join(txt.Txt, "") == value {
			return true
		}
	}
	return false
}

// dnsSolver shows whose a host is by a record.
type dnsSolver struct{ dns DNS }

// Present puts the record.
func (s dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	return s.dns.Put(ctx, dns.Fqdn(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization())
}

// CleanUp takes it out.
func (s dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	return s.dns.Take(ctx, dns.Fqdn(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization())
}
