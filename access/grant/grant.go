// Package grant keeps what of the host apps may have. Nothing is granted at first. What there is to
// grant says internal/ability.
package grant

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
	"github.com/marucloud/maru/internal/ability"
)

// kind is that of the objects, which are named by scope and ability.
const kind = "grant"

// Grants keeps grants in a store. Its methods are safe for concurrent use.
type Grants struct{ store maru.Store }

// New uses the store.
func New(store maru.Store) *Grants { return &Grants{store} }

func key(scope maru.Scope, ability string) maru.Key {
	return maru.Key{Kind: kind, Name: scope.String() + "/" + ability}
}

// Grants lists all, sorted by scope and ability.
func (g *Grants) Grants(ctx context.Context) ([]maru.Grant, error) {
	objects, _, err := g.store.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	grants := make([]maru.Grant, 0, len(objects))
	for _, o := range objects {
		var grant maru.Grant
		if err := json.Unmarshal(o.Data, &grant); err != nil {
			return nil, maru.Errorf(maru.Internal, "stored grant %q: %w", o.Name, err)
		}
		grants = append(grants, grant)
	}
	return grants, nil
}

// AddGrant keeps the grant: its ability for the apps of its scope, whose empty parts match all. It is
// idempotent. The error for an ability that does not exist is of kind Invalid.
func (g *Grants) AddGrant(ctx context.Context, by string, grant maru.Grant) error {
	plain, err := ability.Parse(grant.Ability)
	if err != nil {
		return err
	}
	grant.Ability, grant.By, grant.Created = plain, by, time.Now().UTC()
	_, err = g.store.Commit(ctx,
		maru.Change{Key: key(grant.Scope, plain), Data: maru.Raw(grant)},
		access.Recorded(by, grant.Scope, "grant-added", plain))
	if maru.KindOf(err) == maru.Conflict {
		return nil
	}
	return err
}

// RemoveGrant takes exactly this grant back; NotFound. What runs goes on until its next deploy.
func (g *Grants) RemoveGrant(ctx context.Context, by string, scope maru.Scope, which string) error {
	plain, err := ability.Parse(which)
	if err != nil {
		return err
	}
	object, err := g.store.Get(ctx, key(scope, plain))
	if err == nil {
		_, err = g.store.Commit(ctx,
			maru.Change{Key: object.Key, Expect: object.Revision},
			access.Recorded(by, scope, "grant-removed", plain))
	}
	if k := maru.KindOf(err); k == maru.NotFound || k == maru.Conflict {
		return maru.WithHint(maru.Errorf(maru.NotFound, "%s was not granted to exactly this scope", plain), "`maru grant ls` shows what is granted")
	}
	return err
}

// Check tells whether the app in the scope has all that its services need. The error is of kind
// Denied and names what is missing; its hint is the command that grants just that.
func (g *Grants) Check(ctx context.Context, scope maru.Scope, services map[string]maru.Service) error {
	grants, err := g.Grants(ctx)
	if err != nil {
		return err
	}
	var missing, wanted []string
	for name, service := range services {
		for _, need := range ability.Needs(service) {
			if !ability.Granted(grants, scope, need) {
				missing = append(missing, name+" needs "+need)
				wanted = append(wanted, need)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	slices.Sort(wanted)
	return maru.WithHint(
		maru.Errorf(maru.Denied, "%s wants of the host what was not granted: %s", scope, strings.Join(missing, ", ")),
		"if you trust it with that, an administrator grants it by: "+ability.Command(scope, slices.Compact(wanted)...))
}
