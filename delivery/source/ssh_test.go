package source

import (
	"context"
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/marucloud/maru"
)

// AuthenticateKey knows those whose keys are among the tokens.
func (d *desk) AuthenticateKey(ctx context.Context, key []byte) (maru.Token, error) {
	return d.Authenticate(ctx, base64.StdEncoding.EncodeToString(key))
}

// overSSH serves the rig's repositories by SSH too, and makes the real ssh use the key of a token.
type overSSH struct {
	*rig
	address string
	folder  string // of keys
}

func startSSH(t *testing.T, cfg Config) *overSSH {
	t.Helper()
	r := start(t, cfg)
	hostKey, err := NewHostKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSSH(NewHandler(r.repositories, r.desk, r.desk), r.desk, hostKey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	o := &overSSH{r, l.Addr().String(), t.TempDir()}
	_, port, err := net.SplitHostPort(o.address)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	known := "[127.0.0.1]:" + port + " " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	if err := os.WriteFile(filepath.Join(o.folder, "known"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	r.git("remote", "set-url", "maru", "ssh://git@"+o.address+"/shop.git")
	o.as("deployer")
	return o
}

// as makes a key for the token, and has git use it.
func (o *overSSH) as(token string) {
	o.t.Helper()
	file := filepath.Join(o.folder, token)
	if _, err := os.Stat(file); err != nil {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
			o.t.Fatalf("%v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		o.t.Fatal(err)
	}
	o.desk.mu.Lock()
	if known, ok := o.desk.tokens[token]; ok {
		o.desk.tokens[strings.Fields(string(public))[1]] = known
	}
	o.desk.mu.Unlock()
	o.t.Setenv("GIT_SSH_COMMAND", o.command(token))
}

func (o *overSSH) command(token string) string {
	return "ssh -F none -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o UserKnownHostsFile=" +
		filepath.Join(o.folder, "known") + " -i " + filepath.Join(o.folder, token)
}

func TestSSHPushesAndFetches(t *testing.T) {
	o := startSSH(t, Config{})
	first := strings.TrimSpace(o.git("rev-parse", "HEAD"))
	o.desk.lines = []string{"run 1: building"}
	out := o.git("push", "-o", "skip", "maru", "main")
	if !strings.Contains(out, "remote: run 1: building") || !strings.Contains(out, "main -> main") {
		t.Errorf("the push shows\n%s", out)
	}
	pushes := o.desk.pushes()
	if len(pushes) != 1 || pushes[0].By.Name != "deployer" || pushes[0].Updates[0].New != first || len(pushes[0].Options) != 1 {
		t.Fatalf("received %+v", pushes)
	}
	if out := o.git("push", "maru", "main"); !strings.Contains(out, "Everything up-to-date") {
		t.Errorf("a push of nothing shows\n%s", out)
	}
	o.git("push", "maru", "main:side")
	o.git("push", "maru", ":side")
	if o.branch("side") != "" {
		t.Error("a branch that was deleted is there")
	}
	second := o.commit("two")
	o.git("push", "maru", "main")
	o.as("reader")
	for _, version := range []string{"0", "2"} {
		clone := filepath.Join(t.TempDir(), "clone")
		o.git("-c", "protocol.version="+version, "clone", "--quiet", "ssh://git@"+o.address+"/default/shop", clone)
		if got := strings.TrimSpace(o.git("-C", clone, "rev-parse", "HEAD")); got != second {
			t.Errorf("a clone by version %s has %s", version, got)
		}
		o.git("-C", clone, "-c", "protocol.version="+version, "fetch", "--quiet", "--depth", "1")
	}
}

func TestSSHRefuses(t *testing.T) {
	o := startSSH(t, Config{})
	o.git("push", "maru", "main")
	o.commit("two")
	o.as("reader")
	o.refused("the token reader has the role read; this needs deploy", "push", "maru", "main")
	o.as("other")
	o.refused("the token other is not for default/shop", "fetch", "maru")
	o.as("stranger")
	o.refused("Permission denied (publickey)", "fetch", "maru")
	o.as("deployer")
	o.refused("no address of a Git repository", "fetch", "ssh://git@"+o.address+"/../shop.git")
	o.refused("there is no Git repository", "fetch", "ssh://git@"+o.address+"/none.git")
	o.desk.outcome = maru.WithHint(maru.Errorf(maru.Conflict, "the rollout was taken back"), "look at it")
	out, err := o.try("push", "maru", "main")
	if err == nil || !strings.Contains(out, "look at it") || !strings.Contains(out, "the rollout was taken back") {
		t.Errorf("a push whose run failed ends with %v:\n%s", err, out)
	}
	host, port, _ := net.SplitHostPort(o.address)
	for command, says := range map[string]string{"": "there is no shell here", "ls": "only git-upload-pack and git-receive-pack are done here",
		"git-upload-archive '/shop.git'": "only git-upload-pack", "git-upload-pack '/shop.git' --x": "only git-upload-pack"} {
		words := append(strings.Fields(o.command("deployer")), "-p", port, "git@"+host)
		if command != "" {
			words = append(words, command)
		}
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%q: %v, %s", command, err, out)
		}
	}
	words := append(strings.Fields(o.command("deployer")), "-p", port, "-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "git@"+host)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err == nil {
		t.Errorf("a port is forwarded: %s", out)
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, text := range []string{"git-upload-pack '/shop.git'", "git receive-pack 'a/b.git'", `git-upload-pack '/it'\''s.git'`, `git-upload-pack /git/shop\`, "'", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		service, id, err := parseCommand(text)
		if err != nil {
			return
		}
		if service != uploadPack && service != receivePack || id.Validate() != nil {
			t.Fatalf("%q is taken as %s of %v", text, service, id)
		}
	})
}
