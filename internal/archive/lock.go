package archive

import (
	"errors"
	"strings"

	"filippo.io/age"

	"github.com/marucloud/maru"
)

// Lock says who can read an archive: whoever knows the passphrase, or has the identity of one of the
// recipients, which are age's public keys. Exactly one of the two is given.
type Lock struct {
	Passphrase string
	Recipients []string

	WorkFactor int // of the passphrase, as a power of two; 0: what takes about a second to open
}

func (l Lock) recipients() ([]age.Recipient, error) {
	switch {
	case l.Passphrase == "" && len(l.Recipients) == 0:
		return nil, maru.Errorf(maru.Invalid, "a backup needs a passphrase or a recipient: it has all secrets in it")
	case l.Passphrase != "" && len(l.Recipients) > 0:
		return nil, maru.Errorf(maru.Invalid, "a backup is for a passphrase or for recipients, not both")
	case l.Passphrase == "":
		recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(l.Recipients, "\n")))
		if err != nil {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "recipients of the backup: %w", err), "a recipient looks like age1…; age-keygen makes one")
		}
		return recipients, nil
	}
	recipient, err := age.NewScryptRecipient(l.Passphrase)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "passphrase of the backup: %w", err)
	}
	if l.WorkFactor > 0 {
		recipient.SetWorkFactor(l.WorkFactor)
	}
	return []age.Recipient{recipient}, nil
}

// Key opens archives: by passphrase, by age identities, one per line, or either.
type Key struct {
	Passphrase string
	Identities string
}

func (k Key) identities() ([]age.Identity, error) {
	var identities []age.Identity
	if k.Identities != "" {
		parsed, err := age.ParseIdentities(strings.NewReader(k.Identities))
		if err != nil {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "identities for the backup: %w", err), "an identity looks like AGE-SECRET-KEY-1…")
		}
		identities = parsed
	}
	if k.Passphrase != "" {
		identity, err := age.NewScryptIdentity(k.Passphrase)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "passphrase of the backup: %w", err)
		}
		identities = append(identities, identity)
	}
	if len(identities) == 0 {
		return nil, maru.Errorf(maru.Unauthenticated, "the backup is encrypted: its passphrase or an identity is needed")
	}
	return identities, nil
}

// locked tells a wrong key from a file that is no backup.
func locked(err error) error {
	var mismatch *age.NoIdentityMatchError
	if errors.As(err, &mismatch) {
		return maru.WithHint(maru.Errorf(maru.Unauthenticated, "the passphrase or identity does not open the backup"),
			"use the one that was given when the backup was made")
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "this is no backup of Maru's, or it is damaged: %w", err), "give a file that maru backup wrote")
}
