package acme

import (
	"context"
	"encoding/json"

	"github.com/marucloud/maru"
)

// recordKind is that of what is kept of hosts, by their name.
const recordKind = "acme-host"

func recordKey(host string) maru.Key { return maru.Key{Kind: recordKind, Name: host} }

// stored is a record with its revision.
type stored struct {
	record
	revision maru.Revision
}

func (m *Manager) records(ctx context.Context) (map[string]stored, error) {
	objects, _, err := m.store.List(ctx, recordKind, "")
	if err != nil {
		return nil, err
	}
	all := map[string]stored{}
	for _, o := range objects {
		s := stored{revision: o.Revision}
		if err := json.Unmarshal(o.Data, &s.record); err != nil {
			return nil, maru.Errorf(maru.Internal, "stored host %q: %w", o.Name, err)
		}
		all[o.Name] = s
	}
	return all, nil
}

func (m *Manager) keep(ctx context.Context, host string, r record, also ...maru.Change) error {
	changes := append([]maru.Change{{Key: recordKey(host), Expect: maru.Any, Data: maru.Raw(r)}}, also...)
	_, err := m.store.Commit(ctx, changes...)
	return err
}
