package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/internal/atomicfile"
)

// serveSSH serves the Git repositories by SSH to those who have a key of a token. While it can't listen, all else
// goes on.
func (c *controlPlane) serveSSH(ctx context.Context, p *platform) error {
	key, err := hostKey(filepath.Join(p.layout.ServerData(), "ssh-host-key"), c.box)
	if err != nil {
		return err
	}
	ssh, err := source.NewSSH(c.git, c.tokens, key)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.ssh)
		if err == nil {
			c.log.Info("Git is served by SSH", "address", l.Addr().String(), "host-key", ssh.Fingerprint())
			err = ssh.Serve(ctx, l)
		}
		if err != nil {
			c.log.Error("Git is not served by SSH", "error", err)
		}
		pause(ctx, again)
	}
	return nil
}

// hostKey gives the key in the file, which is sealed by the box; the first time it makes one.
func hostKey(path string, box *secrets.Box) ([]byte, error) {
	const name = "ssh-host-key"
	sealed, err := os.ReadFile(path)
	if err == nil {
		return box.Open(sealed, name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, maru.Errorf(maru.Unavailable, "read the host key for SSH: %w", err)
	}
	key, err := source.NewHostKey()
	if err == nil {
		err = atomicfile.Write(path, box.Seal(key, name), 0o600)
	}
	if err != nil {
		return nil, maru.Errorf(maru.Unavailable, "make a host key for SSH: %w", err)
	}
	return key, nil
}
