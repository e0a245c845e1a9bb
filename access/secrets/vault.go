package secrets

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
)

// The objects of a vault. Versions count by project, environment and name, so that an app's own
// secret and its environment's of the same name never have the same version: a release, which knows a
// version, knows the value.
const (
	infoKind    = "secret"         // SCOPE/NAME: maru.SecretInfo
	valueKind   = "secret-value"   // SCOPE/NAME/VERSION: sealedValue
	counterKind = "secret-counter" // PROJECT/ENVIRONMENT/NAME: the last version
)

// ci is what kinds of the workflows' secrets begin with.
const ci = "ci-"

// attempts is how often a change is tried again when another one was faster.
const attempts = 20

type sealedValue struct {
	Sealed []byte `json:"sealed"`
}

// Vault keeps secrets with their versions in a store, sealed by a box. An app sees its own secrets
// before its environment's, which have an empty app in their scope. Its methods are safe for
// concurrent use.
type Vault struct {
	store  maru.Store
	box    *Box
	prefix string // of the kinds of object
	check  func(name string) error
}

// NewVault uses the store and the box.
func NewVault(store maru.Store, box *Box) *Vault {
	return &Vault{store, box, "", func(name string) error { return maru.CheckName("secret", name) }}
}

// NewWorkflowVault keeps the secrets of workflows, apart from those of instances. Their names are such as GitHub
// takes, in upper case.
func NewWorkflowVault(store maru.Store, box *Box) *Vault {
	return &Vault{store, box, ci, func(name string) error { return maru.CheckWorkflowName("secret", name) }}
}

func (v *Vault) infoKey(scope maru.Scope, name string) maru.Key {
	return maru.Key{Kind: v.prefix + infoKind, Name: scope.String() + "/" + name}
}

func (v *Vault) valueKey(scope maru.Scope, name string, version int) maru.Key {
	return maru.Key{Kind: v.prefix + valueKind, Name: fmt.Sprintf("%s/%s/%09d", scope, name, version)}
}

func (v *Vault) counterKey(scope maru.Scope, name string) maru.Key {
	return maru.Key{Kind: v.prefix + counterKind, Name: scope.Project + "/" + scope.Environment + "/" + name}
}

// boundTo names what a value is sealed for.
func boundTo(key maru.Key) string { return key.Kind + " " + key.Name }

// SetSecret keeps the value as the next version, unless it is that of the newest.
func (v *Vault) SetSecret(ctx context.Context, by string, scope maru.Scope, name string, value []byte) (version int, changed bool, err error) {
	if err := v.check(name); err != nil {
		return 0, false, err
	}
	for range attempts {
		version, changed, err = v.set(ctx, by, scope, name, value)
		if maru.KindOf(err) != maru.Conflict {
			break
		}
	}
	return version, changed, err
}

func (v *Vault) set(ctx context.Context, by string, scope maru.Scope, name string, value []byte) (version int, changed bool, err error) {
	info, infoRevision, err := load[maru.SecretInfo](ctx, v.store, v.infoKey(scope, name))
	if err != nil {
		return 0, false, err
	}
	if infoRevision > 0 {
		newest, err := v.value(ctx, scope, name, info.Version)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare(newest, value) == 1 {
			return info.Version, false, nil
		}
	}
	last, counterRevision, err := load[int](ctx, v.store, v.counterKey(scope, name))
	if err != nil {
		return 0, false, err
	}
	version = last + 1
	info = maru.SecretInfo{Scope: scope, Name: name, Version: version, Updated: time.Now().UTC(), By: by}
	key := v.valueKey(scope, name, version)
	_, err = v.store.Commit(ctx,
		maru.Change{Key: v.infoKey(scope, name), Expect: infoRevision, Data: maru.Raw(info)},
		maru.Change{Key: v.counterKey(scope, name), Expect: counterRevision, Data: maru.Raw(version)},
		maru.Change{Key: key, Data: maru.Raw(sealedValue{v.box.Seal(value, boundTo(key))})},
		access.Recorded(by, scope, "secret-set", fmt.Sprintf("secret %s, version %d", name, version)))
	if err != nil {
		return 0, false, err
	}
	return version, true, nil
}

// Secret gives the newest version of exactly this scope; NotFound.
func (v *Vault) Secret(ctx context.Context, scope maru.Scope, name string) (maru.SecretInfo, error) {
	info, revision, err := load[maru.SecretInfo](ctx, v.store, v.infoKey(scope, name))
	if err == nil && revision == 0 {
		err = missing(scope, name)
	}
	return info, err
}

// Visible gives the newest version that the app in the scope sees: its own, else its environment's; NotFound.
func (v *Vault) Visible(ctx context.Context, scope maru.Scope, name string) (maru.SecretInfo, error) {
	info, err := v.Secret(ctx, scope, name)
	if maru.KindOf(err) != maru.NotFound || scope.App == "" {
		return info, err
	}
	shared := scope
	shared.App = ""
	if info, err := v.Secret(ctx, shared, name); maru.KindOf(err) != maru.NotFound {
		return info, err
	}
	return maru.SecretInfo{}, missing(scope, name)
}

// SecretEquals tells whether the newest version of exactly this scope has the value; NotFound.
func (v *Vault) SecretEquals(ctx context.Context, scope maru.Scope, name string, value []byte) (bool, error) {
	info, err := v.Secret(ctx, scope, name)
	if err != nil {
		return false, err
	}
	newest, err := v.value(ctx, scope, name, info.Version)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(newest, value) == 1, nil
}

// Value gives the value of a version that the app in the scope sees: of its own secret, or of its
// environment's; NotFound.
func (v *Vault) Value(ctx context.Context, scope maru.Scope, name string, version int) ([]byte, error) {
	value, err := v.value(ctx, scope, name, version)
	if maru.KindOf(err) == maru.NotFound && scope.App != "" {
		shared := scope
		shared.App = ""
		if value, err := v.value(ctx, shared, name, version); maru.KindOf(err) != maru.NotFound {
			return value, err
		}
	}
	return value, err
}

// value gives the value of a version in exactly this scope.
func (v *Vault) value(ctx context.Context, scope maru.Scope, name string, version int) ([]byte, error) {
	key := v.valueKey(scope, name, version)
	sealed, revision, err := load[sealedValue](ctx, v.store, key)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		return nil, maru.Errorf(maru.NotFound, "secret %q of %s has no version %d", name, scope, version)
	}
	return v.box.Open(sealed.Sealed, boundTo(key))
}

// Values gives the newest values of all secrets that the app in the scope sees, by name.
func (v *Vault) Values(ctx context.Context, scope maru.Scope) (map[string][]byte, error) {
	shared := scope
	shared.App = ""
	all, err := v.Secrets(ctx, shared)
	if err != nil {
		return nil, err
	}
	newest := map[string]maru.SecretInfo{}
	for _, info := range all {
		if _, own := newest[info.Name]; info.Scope == scope || info.Scope == shared && !own {
			newest[info.Name] = info
		}
	}
	values := map[string][]byte{}
	for name, info := range newest {
		if values[name], err = v.value(ctx, info.Scope, name, info.Version); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Secrets lists those of a scope, whose empty parts match all, sorted.
func (v *Vault) Secrets(ctx context.Context, scope maru.Scope) ([]maru.SecretInfo, error) {
	objects, _, err := v.store.List(ctx, v.prefix+infoKind, "")
	if err != nil {
		return nil, err
	}
	var all []maru.SecretInfo
	for _, o := range objects {
		var info maru.SecretInfo
		if err := json.Unmarshal(o.Data, &info); err != nil {
			return nil, maru.Errorf(maru.Internal, "stored secret %q: %w", o.Name, err)
		}
		if scope.Covers(info.Scope) {
			all = append(all, info)
		}
	}
	return all, nil
}

// RemoveSecret forgets all versions in exactly this scope; NotFound.
func (v *Vault) RemoveSecret(ctx context.Context, by string, scope maru.Scope, name string) error {
	for range attempts {
		err := v.remove(ctx, by, scope, name)
		if maru.KindOf(err) != maru.Conflict {
			return err
		}
	}
	return maru.Errorf(maru.Conflict, "secret %q of %s changes all the time", name, scope)
}

func (v *Vault) remove(ctx context.Context, by string, scope maru.Scope, name string) error {
	_, revision, err := load[maru.SecretInfo](ctx, v.store, v.infoKey(scope, name))
	if err != nil {
		return err
	}
	if revision == 0 {
		return missing(scope, name)
	}
	values, _, err := v.store.List(ctx, v.prefix+valueKind, scope.String()+"/"+name+"/")
	if err != nil {
		return err
	}
	changes := []maru.Change{
		{Key: v.infoKey(scope, name), Expect: revision},
		access.Recorded(by, scope, "secret-removed", "secret "+name),
	}
	for _, o := range values {
		changes = append(changes, maru.Change{Key: o.Key, Expect: o.Revision})
	}
	_, err = v.store.Commit(ctx, changes...)
	return err
}

// Reseal seals again what was sealed by a key before the newest, as after [Box.Rotate]. Then
// [Box.Retire] can forget the others.
func (v *Vault) Reseal(ctx context.Context) error {
	objects, _, err := v.store.List(ctx, v.prefix+valueKind, "")
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(objects, 100) {
		var changes []maru.Change
		for _, o := range batch {
			var sealed sealedValue
			if err := json.Unmarshal(o.Data, &sealed); err != nil {
				return maru.Errorf(maru.Internal, "stored secret %q: %w", o.Name, err)
			}
			if !v.box.Stale(sealed.Sealed) {
				continue
			}
			value, err := v.box.Open(sealed.Sealed, boundTo(o.Key))
			if err != nil {
				return err
			}
			changes = append(changes, maru.Change{Key: o.Key, Expect: o.Revision, Data: maru.Raw(sealedValue{v.box.Seal(value, boundTo(o.Key))})})
		}
		if _, err := v.store.Commit(ctx, changes...); err != nil {
			return err
		}
	}
	return nil
}

func missing(scope maru.Scope, name string) error {
	where := strings.TrimSuffix(scope.String(), "/")
	return maru.WithHint(maru.Errorf(maru.NotFound, "%s has no secret %q", where, name), "`maru secret ls` lists them; `maru secret set "+name+"` makes one")
}

// load gives the object and its revision; the zero value and 0 when there is none.
func load[T any](ctx context.Context, store maru.Store, key maru.Key) (value T, revision maru.Revision, err error) {
	object, err := store.Get(ctx, key)
	if maru.KindOf(err) == maru.NotFound {
		return value, 0, nil
	}
	if err != nil {
		return value, 0, err
	}
	if err := json.Unmarshal(object.Data, &value); err != nil {
		return value, 0, maru.Errorf(maru.Internal, "stored %s %q: %w", key.Kind, key.Name, err)
	}
	return value, object.Revision, nil
}
