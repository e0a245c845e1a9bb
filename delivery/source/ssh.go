package source

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/marucloud/maru"
)

// KeyAuthenticator finds out who has a key.
type KeyAuthenticator interface {
	// AuthenticateKey gives the token that has the public key, which is in the wire format of RFC 4253,
	// section 6.6; Unauthenticated.
	AuthenticateKey(ctx context.Context, key []byte) (maru.Token, error)
}

// Bounds on clients of SSH.
const (
	sshClients  = 256              // at once
	sshSessions = 8                // at once, of a client
	sshGreeting = 15 * time.Second // until a client has proved who it is
	sshTries    = 6                // of keys
)

// SSH serves repositories to people with keys (RFC 4251 to 4254). Nothing but Git's two services is done for them.
type SSH struct {
	handler *Handler
	keys    KeyAuthenticator
	config  *ssh.ServerConfig
	print   string
}

// tokenOf is where a connection has its token.
type tokenOf struct{}

// NewHostKey makes a key by which clients know a server again: Ed25519, in PEM as OpenSSH keeps it.
func NewHostKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// NewSSH makes a server of the handler's repositories. The host key is one of [NewHostKey].
func NewSSH(handler *Handler, keys KeyAuthenticator, hostKey []byte) (*SSH, error) {
	host, err := ssh.ParsePrivateKey(hostKey)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "the host key for SSH: %w", err)
	}
	s := &SSH{handler: handler, keys: keys, print: ssh.FingerprintSHA256(host.PublicKey())}
	s.config = &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-Maru", MaxAuthTries: sshTries,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			ctx, cancel := context.WithTimeout(context.Background(), sshGreeting)
			defer cancel()
			token, err := keys.AuthenticateKey(ctx, key.Marshal())
			if err != nil {
				return nil, err
			}
			return &ssh.Permissions{ExtraData: map[any]any{tokenOf{}: token}}, nil
		},
	}
	s.config.AddHostKey(host)
	return s, nil
}

// Fingerprint is the host key's, as clients show it.
func (s *SSH) Fingerprint() string { return s.print }

// Serve serves clients until ctx ends, and returns when none is left.
func (s *SSH) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	room := make(chan struct{}, sshClients)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept SSH: %w", err)
		}
		select {
		case room <- struct{}{}:
			running.Go(func() {
				defer func() { <-room }()
				s.serve(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

func (s *SSH) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	log := s.handler.repositories.log
	if err := conn.SetDeadline(time.Now().Add(sshGreeting)); err != nil {
		return
	}
	client, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		log.Debug("a client of SSH is not let in", "from", conn.RemoteAddr(), "error", err)
		return
	}
	token, ok := client.Permissions.ExtraData[tokenOf{}].(maru.Token)
	if !ok {
		return
	}
	go ssh.DiscardRequests(requests)
	var running sync.WaitGroup
	room := make(chan struct{}, sshSessions)
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only Git is served here")
			continue
		}
		select {
		case room <- struct{}{}:
			running.Go(func() {
				defer func() { <-room }()
				s.session(ctx, token, c)
			})
		default:
			_ = c.Reject(ssh.ResourceShortage, "too many at once")
		}
	}
	cancel() // the client is gone
	running.Wait()
}

// session answers one command.
func (s *SSH) session(ctx context.Context, token maru.Token, c ssh.NewChannel) {
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	e := exchange{Handler: s.handler, ctx: ctx, token: token}
	for r := range requests {
		switch r.Type {
		case "env":
			var set struct{ Name, Value string }
			taken := ssh.Unmarshal(r.Payload, &set) == nil && set.Name == "GIT_PROTOCOL"
			if taken {
				e.protocol = protocolOf(set.Value)
			}
			_ = r.Reply(taken, nil)
		case "exec", "shell":
			var command struct{ Text string }
			if r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) != nil {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			go ssh.DiscardRequests(requests)
			var status struct{ Code uint32 }
			if err := s.run(&e, command.Text, channel); err != nil {
				status.Code = 1
				fmt.Fprintln(channel.Stderr(), printable(s.handler.explain(ctx, command.Text, err)))
			}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
			return
		default:
			_ = r.Reply(false, nil)
		}
	}
}

// run does what a client's command says.
func (s *SSH) run(e *exchange, command string, channel ssh.Channel) (err error) {
	if e.service, e.id, err = parseCommand(command); err != nil {
		return err
	}
	if err := e.admit(); err != nil {
		return err
	}
	if e.service == uploadPack {
		return e.upload(channel)
	}
	refs, err := e.refs()
	if err != nil {
		return err
	}
	if _, err := channel.Write(refs); err != nil {
		return nil // the client is gone
	}
	body := bufio.NewReader(&patientChannel{channel, e.repositories.cfg.Idle})
	if _, err := body.Peek(1); errors.Is(err, io.EOF) {
		return nil // there is nothing to push
	}
	return e.receive(body, channel, func() error { return nil })
}

// upload answers git fetch, in a conversation.
func (e *exchange) upload(channel ssh.Channel) error {
	cmd := e.git(e.ctx, "upload-pack", "--strict", fmt.Sprintf("--timeout=%d", max(1, int(e.repositories.cfg.Idle.Seconds()))), e.dir)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return gitError(e.service, err, "")
	}
	if err := cmd.Start(); err != nil {
		return gitError(e.service, err, "")
	}
	go func() { // ends with the session, or with git
		_, _ = io.Copy(in, channel)
		in.Close()
	}()
	if err := cmd.Wait(); err != nil {
		return maru.Errorf(maru.Interrupted, "the fetch ended early")
	}
	return nil
}

// parseCommand reads "git-receive-pack '/shop.git'", as git and shells quote it.
func parseCommand(text string) (service string, id maru.RepositoryID, err error) {
	hint := "use it by git: git clone ssh://HOST:PORT/APP.git"
	if text == "" {
		return "", id, maru.WithHint(maru.Errorf(maru.Denied, "there is no shell here"), hint)
	}
	words, err := splitWords(text)
	if err == nil && len(words) > 1 && words[0] == "git" { // "git upload-pack" is the same
		words = append([]string{"git-" + words[1]}, words[2:]...)
	}
	if err != nil || len(words) != 2 || words[0] != uploadPack && words[0] != receivePack {
		return "", id, maru.WithHint(maru.Errorf(maru.Denied, "only %s and %s are done here", uploadPack, receivePack), hint)
	}
	name := strings.TrimPrefix(words[1], "/")
	if id, err = parseName(strings.TrimPrefix(name, strings.TrimPrefix(Prefix, "/"))); err != nil {
		return "", id, maru.WithHint(maru.Errorf(maru.NotFound, "%.100q is no address of a Git repository", words[1]), "it looks like /APP.git, or /PROJECT/APP.git")
	}
	return words[0], id, nil
}

// splitWords takes words apart as a shell does, as far as git quotes them: in single quotes, and with a backslash
// before what stands outside of these.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	within, quoted := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c != '\'':
			word.WriteByte(c)
		case c == '\'':
			within, quoted = true, !quoted
		case c == '\\':
			if i++; i == len(text) {
				return nil, maru.Errorf(maru.Invalid, "a backslash ends %.100q", text)
			}
			within = true
			word.WriteByte(text[i])
		case c == ' ' || c == '\t':
			if within {
				words = append(words, word.String())
				word.Reset()
			}
			within = false
		default:
			within = true
			word.WriteByte(c)
		}
	}
	if quoted {
		return nil, maru.Errorf(maru.Invalid, "a quote is open in %.100q", text)
	}
	if within {
		words = append(words, word.String())
	}
	return words, nil
}

// patientChannel gives up a client that sends nothing for too long.
type patientChannel struct {
	ssh.Channel
	idle time.Duration
}

func (p *patientChannel) Read(b []byte) (int, error) {
	timer := time.AfterFunc(p.idle, func() { p.Close() })
	defer timer.Stop()
	return p.Channel.Read(b)
}
