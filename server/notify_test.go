package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// mouths are the receivers of the world.
type mouths struct{ added []maru.Receiver }

func (m *mouths) Add(_ context.Context, by string, r maru.Receiver, t maru.ReceiverTarget) (maru.Receiver, string, error) {
	r.By, r.Address = by, t.URL
	m.added = append(m.added, r)
	return r, "whsec_x", nil
}

func (m *mouths) Receivers(_ context.Context, scope maru.Scope) ([]maru.ReceiverStatus, error) {
	var all []maru.ReceiverStatus
	for _, r := range m.added {
		if scope.Covers(r.Scope) {
			all = append(all, maru.ReceiverStatus{Receiver: r, Waiting: 2})
		}
	}
	return all, nil
}

func (m *mouths) Troubles(context.Context, maru.Scope) ([]string, error) {
	return []string{"ops was not told"}, nil
}

func (m *mouths) Remove(context.Context, string, maru.Scope, string) error { return nil }

func (m *mouths) Test(context.Context, string, maru.Scope, string) error { return nil }

func TestReceivers(t *testing.T) {
	r := start(t)
	add := func(private bool) *maruv1.NotifyServiceAddRequest {
		return &maruv1.NotifyServiceAddRequest{
			Scope: protoScope(shop), Name: "ops", Private: private, Topics: []string{"rollbacks"},
			Target: &maruv1.NotifyServiceAddRequest_Webhook{Webhook: &maruv1.Webhook{Url: "https://example.com/"}},
		}
	}
	admin, deployer := r.as("admin", maru.RoleAdmin, shop), r.as("deployer", maru.RoleDeploy, maru.Scope{})
	_, err := admin.Notify.Add(t.Context(), add(true))
	wantKind(t, err, maru.Denied)
	_, err = deployer.Notify.Add(t.Context(), add(false))
	wantKind(t, err, maru.Denied)
	other := add(false)
	other.Scope = &maruv1.Scope{}
	_, err = admin.Notify.Add(t.Context(), other)
	wantKind(t, err, maru.Denied)
	_, err = admin.Notify.Add(t.Context(), &maruv1.NotifyServiceAddRequest{Scope: protoScope(shop), Name: "ops"})
	wantKind(t, err, maru.Invalid)
	made, err := admin.Notify.Add(t.Context(), add(false))
	wantNil(t, err)
	if made.Secret != "whsec_x" || made.Receiver.By != "admin" || made.Receiver.Kind != "webhook" || made.Receiver.Topics[0] != "rollbacks" {
		t.Errorf("made %v", made)
	}
	_, err = r.local.Notify.Add(t.Context(), add(true))
	wantNil(t, err)
	list, err := deployer.Notify.List(t.Context(), &maruv1.NotifyServiceListRequest{Scope: &maruv1.Scope{}})
	wantNil(t, err)
	if len(list.Receivers) != 2 || list.Receivers[0].Waiting != 2 {
		t.Errorf("there are %v", list)
	}
	_, err = r.deploy(r.local, r.request(plainApp()))
	wantNil(t, err)
	status, err := r.local.Apps.Status(t.Context(), &maruv1.StatusRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if len(status.App.Notices) != 1 {
		t.Errorf("the notices are %q", status.App.Notices)
	}
}

func (w *world) Dora(_ context.Context, scope maru.Scope, q maru.DoraQuestion) ([]maru.Dora, error) {
	return []maru.Dora{{Scope: scope, Since: q.Since, Until: q.Until, Periods: []maru.DoraPeriod{{Start: q.Since}}}}, nil
}

func TestDora(t *testing.T) {
	r := start(t)
	c := r.as("reader", maru.RoleRead, shop)
	for name, req := range map[string]*maruv1.DoraRequest{
		"a length that is unknown":        {By: "year"},
		"a place that is unknown":         {TimeZone: "Mars/Olympus"},
		"one that is this machine's":      {TimeZone: "Local"},
		"an end before the beginning":     {Since: timestamppb.New(time.Now().Add(time.Hour))},
		"more days than anybody looks at": {By: "day", Since: timestamppb.New(time.Unix(0, 0))},
	} {
		if _, err := c.Delivery.Dora(t.Context(), req); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := c.Delivery.Dora(t.Context(), &maruv1.DoraRequest{})
	wantNil(t, err)
	if d := got.Apps[0]; d.Scope.App != "shop" || d.Until.AsTime().Sub(d.Since.AsTime()) != 30*24*time.Hour || len(d.Periods) != 1 {
		t.Errorf("got %v", d)
	}
	_, err = c.Delivery.Dora(t.Context(), &maruv1.DoraRequest{Scope: &maruv1.Scope{Project: "default", App: "blog"}})
	wantKind(t, err, maru.Denied)
}
