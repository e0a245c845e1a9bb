package follow

import (
	"context"
	"encoding/json"

	"github.com/marucloud/maru"
)

// load gives an object; NotFound.
func load[T any](ctx context.Context, store maru.Store, key maru.Key) (T, error) {
	var v T
	o, err := store.Get(ctx, key)
	if err != nil {
		return v, err
	}
	return decode[T](o)
}

func decode[T any](o maru.Object) (T, error) {
	var v T
	if err := json.Unmarshal(o.Data, &v); err != nil {
		return v, maru.Errorf(maru.Internal, "stored %s %q: %w", o.Kind, o.Name, err)
	}
	return v, nil
}

// list gives all objects of a kind.
func list[T any](ctx context.Context, store maru.Store, kind string) ([]T, error) {
	objects, _, err := store.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	values := make([]T, 0, len(objects))
	for _, o := range objects {
		v, err := decode[T](o)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}
