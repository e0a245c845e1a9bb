package main

import (
	"context"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/stream"
	"github.com/marucloud/maru/traffic/table"
)

// routing answers where requests go, out of a table as the proxy's that is made of what proxies are told.
type routing struct{ publisher *stream.Publisher }

func (r routing) table() (*table.Table, error) {
	t := table.New()
	err := t.Update(maru.TrafficUpdate{Full: true, Services: r.publisher.Services()})
	return t, err
}

func (r routing) Routes(context.Context) ([]maru.RouteStatus, error) {
	t, err := r.table()
	if err != nil {
		return nil, err
	}
	return t.Routes(), nil
}

func (r routing) Explain(_ context.Context, q maru.RouteQuestion) (maru.RouteAnswer, error) {
	t, err := r.table()
	if err != nil {
		return maru.RouteAnswer{}, err
	}
	return t.Explain(q), nil
}
