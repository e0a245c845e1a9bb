package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/acme"
)

// acmeFlags say from whom certificates for public host names come, and how.
type acmeFlags struct {
	email, directory, authority, binding, dns string
}

func (a *acmeFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&a.email, "acme", env("ACME", ""), "get certificates for public host names by ACME; the e-mail address is for the authority's warnings, and whoever gives it agrees to the authority's terms")
	flags.StringVar(&a.directory, "acme-directory", env("ACME_DIRECTORY", acme.LetsEncrypt), "the authority")
	flags.StringVar(&a.authority, "acme-ca", env("ACME_CA", ""), "PEM file of who vouches for the authority's own server (default: whom the system trusts)")
	flags.StringVar(&a.binding, "acme-binding", env("ACME_BINDING", ""), "file with the ID and the key of an account that the authority knows, where it asks for one")
	flags.StringVar(&a.dns, "acme-dns", env("ACME_DNS", ""), "show whose a host is by DNS, as wildcards need it: rfc2136://KEYNAME@SERVER/ZONE?secret=FILE, or a program that is run with put or take, NAME and VALUE")
}

func (a *acmeFlags) arguments() []string {
	return []string{"--acme", a.email, "--acme-directory", a.directory, "--acme-ca", a.authority, "--acme-binding", a.binding, "--acme-dns", a.dns}
}

// complete makes the paths of files absolute.
func (a *acmeFlags) complete() error {
	paths := []*string{&a.authority, &a.binding}
	if !strings.Contains(a.dns, "://") {
		paths = append(paths, &a.dns)
	}
	for _, path := range paths {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	return nil
}

// config reads what the flags name; nil when nobody asked for ACME.
func (a *acmeFlags) config() (*acme.Config, error) {
	if a.email == "" {
		return nil, nil //nolint:nilnil // nobody asked for it
	}
	cfg := &acme.Config{Email: a.email, Directory: a.directory, Agent: "maru/" + version}
	var err error
	if a.authority != "" {
		if cfg.Roots, err = os.ReadFile(a.authority); err != nil {
			return nil, maru.Errorf(maru.Invalid, "--acme-ca: %w", err)
		}
	}
	if a.binding != "" {
		data, err := os.ReadFile(a.binding)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "--acme-binding: %w", err)
		}
		words := strings.Fields(string(data))
		if len(words) != 2 {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--acme-binding: %s does not have two words", a.binding), "write the account's ID, a space, and its key as the authority gave it")
		}
		cfg.BindingID, cfg.BindingKey = words[0], words[1]
	}
	if a.dns != "" {
		if cfg.DNS, err = acme.ParseDNS(a.dns); err != nil {
			return nil, err
		}
	}
	return cfg, cfg.Validate()
}
