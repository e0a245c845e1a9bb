package server

import (
	"context"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// Events gives what happened, and with follow what happens.
func (s appService) Events(ctx context.Context, req *maruv1.EventsRequest, stream *connect.ServerStream[maruv1.EventsResponse]) error {
	wanted := fromScope(req.Scope)
	objects, revision, err := s.deps.Store.List(ctx, kindEvent, scopePrefix(wanted))
	if err != nil {
		return err
	}
	var past []namedEvent
	for _, o := range objects {
		e, ok, err := eventOf(o.Name, o.Data, req)
		if err != nil {
			return err
		}
		if ok {
			past = append(past, e)
		}
	}
	sortEvents(past)
	switch tail := int(req.Tail); {
	case tail < 0:
		past = nil
	case tail > 0 && tail < len(past):
		past = past[len(past)-tail:]
	}
	for _, e := range past {
		if err := stream.Send(&maruv1.EventsResponse{Event: e.proto(s.cfg.Host)}); err != nil {
			return err
		}
	}
	if !req.Follow {
		return nil
	}
	return s.followEvents(ctx, revision, req, stream)
}

func (s appService) followEvents(ctx context.Context, from maru.Revision, req *maruv1.EventsRequest, stream *connect.ServerStream[maruv1.EventsResponse]) error {
	for change, err := range s.deps.Store.Watch(ctx, from) {
		if err != nil {
			return err
		}
		if change.Key.Kind != kindEvent || change.Data == nil {
			continue
		}
		e, ok, err := eventOf(change.Key.Name, change.Data, req)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := stream.Send(&maruv1.EventsResponse{Event: e.proto(s.cfg.Host)}); err != nil {
			return err
		}
	}
	return ended(ctx)
}

// namedEvent is an event with its object's name.
type namedEvent struct {
	maru.Event
	name string
}

func (e namedEvent) proto(host string) *maruv1.Event {
	p, c := eventProto(e.Event), maru.NewCloudEvent(host, e.name, e.Event)
	p.Id, p.Source = c.ID, c.Source
	return p
}

// eventOf decodes an event, and tells whether it was asked for.
func eventOf(name string, data []byte, req *maruv1.EventsRequest) (namedEvent, bool, error) {
	scope, _, ok := scopeOfName(name)
	if !ok || !fromScope(req.Scope).Covers(scope) {
		return namedEvent{}, false, nil
	}
	e := namedEvent{name: name}
	if err := json.Unmarshal(data, &e.Event); err != nil {
		return e, false, fmt.Errorf("stored event %q: %w", name, err)
	}
	if req.Service != "" && e.Service != req.Service || req.Since != nil && e.Time.Before(fromTime(req.Since)) {
		return e, false, nil
	}
	return e, true, nil
}
