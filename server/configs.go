package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// configService keeps the content of external configs.
type configService struct{ *Server }

const maxConfig = 1 << 20

type storedConfig struct {
	Content []byte    `json:"content"`
	Updated time.Time `json:"updated"`
	By      string    `json:"by"`
}

func configKey(s maru.Scope, name string) maru.Key {
	return maru.Key{Kind: kindConfig, Name: s.String() + "/" + name}
}

func (s configService) Set(ctx context.Context, req *maruv1.ConfigServiceSetRequest) (*maruv1.ConfigServiceSetResponse, error) {
	if err := maru.CheckName("config", req.Name); err != nil {
		return nil, err
	}
	if len(req.Content) > maxConfig {
		return nil, maru.WithHint(maru.Errorf(maru.Exhausted, "config %q has %d bytes; at most %d are allowed", req.Name, len(req.Content), maxConfig),
			"put large files into an image or a volume")
	}
	_, err := s.deps.Store.Commit(ctx, maru.Change{
		Key:    configKey(fromScope(req.Scope), req.Name),
		Data:   maru.Raw(storedConfig{Content: req.Content, Updated: time.Now().UTC(), By: callerName(ctx)}),
		Expect: maru.Any,
	})
	return &maruv1.ConfigServiceSetResponse{}, err
}

func (s configService) List(ctx context.Context, req *maruv1.ConfigServiceListRequest) (*maruv1.ConfigServiceListResponse, error) {
	wanted := fromScope(req.Scope)
	objects, _, err := s.deps.Store.List(ctx, kindConfig, scopePrefix(wanted))
	if err != nil {
		return nil, err
	}
	res := &maruv1.ConfigServiceListResponse{}
	for _, o := range objects {
		scope, name, ok := scopeOfName(o.Name)
		if !ok || !wanted.Covers(scope) {
			continue
		}
		var c storedConfig
		if err := json.Unmarshal(o.Data, &c); err != nil {
			return nil, fmt.Errorf("stored config %q: %w", o.Name, err)
		}
		res.Configs = append(res.Configs, &maruv1.ConfigInfo{
			Scope: scopeProto(scope), Name: name, Size: int64(len(c.Content)), Updated: timeProto(c.Updated), By: c.By,
		})
	}
	return res, nil
}

func (s configService) Remove(ctx context.Context, req *maruv1.ConfigServiceRemoveRequest) (*maruv1.ConfigServiceRemoveResponse, error) {
	changes := make([]maru.Change, len(req.Names))
	for i, name := range req.Names {
		key := configKey(fromScope(req.Scope), name)
		o, err := s.deps.Store.Get(ctx, key)
		if maru.KindOf(err) == maru.NotFound {
			return nil, maru.WithHint(maru.Errorf(maru.NotFound, "config %q does not exist", name), "`maru config ls` lists them")
		}
		if err != nil {
			return nil, err
		}
		changes[i] = maru.Change{Key: key, Expect: o.Revision}
	}
	_, err := s.deps.Store.Commit(ctx, changes...)
	return &maruv1.ConfigServiceRemoveResponse{}, err
}

// externalConfig gives the content of an external config: the app's own, else the environment's, else of the entry
// that the environment is of.
func (s *Server) externalConfig(ctx context.Context, scope maru.Scope, of, name string) ([]byte, error) {
	places := []maru.Scope{scope, sharedBy(scope)}
	if of != "" {
		scope.Environment = of
		places = append(places, scope, sharedBy(scope))
	}
	for _, in := range places {
		c, revision, err := load[storedConfig](ctx, s.deps.Store, configKey(in, name))
		if err != nil {
			return nil, err
		}
		if revision != 0 {
			return c.Content, nil
		}
	}
	return nil, maru.WithHint(maru.Errorf(maru.Invalid, "external config %q does not exist", name),
		fmt.Sprintf("set it first: maru config set %s --from FILE --env %s", name, scope.Environment))
}
