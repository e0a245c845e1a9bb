package server

import (
	"context"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// notifyService keeps who is told of what happens.
type notifyService struct{ *Server }

func (s notifyService) receivers() (Receivers, error) {
	if s.deps.Receivers == nil {
		return nil, unsupported("notifications")
	}
	return s.deps.Receivers, nil
}

// Add keeps a receiver. Who is limited to a scope may not have the server reach into its own networks.
func (s notifyService) Add(ctx context.Context, req *maruv1.NotifyServiceAddRequest) (*maruv1.NotifyServiceAddResponse, error) {
	receivers, err := s.receivers()
	if err != nil {
		return nil, err
	}
	r := maru.Receiver{Scope: fromScope(req.Scope), Name: req.Name, Private: req.Private}
	for _, topic := range req.Topics {
		r.Topics = append(r.Topics, maru.Topic(topic))
	}
	if who, _ := callerOf(ctx); req.Private && who.Scope != (maru.Scope{}) {
		return nil, maru.WithHint(maru.Errorf(maru.Denied, "%s is limited to %s; private addresses concern the whole machine", who.Name, scopeText(who.Scope)),
			"use a token without a scope")
	}
	var t maru.ReceiverTarget
	switch target := req.Target.(type) {
	case *maruv1.NotifyServiceAddRequest_Webhook:
		r.Kind = maru.ReceiverWebhook
		t = maru.ReceiverTarget{URL: target.Webhook.Url, Secret: target.Webhook.Secret}
	case *maruv1.NotifyServiceAddRequest_Slack:
		r.Kind = maru.ReceiverSlack
		t = maru.ReceiverTarget{URL: target.Slack.Url}
	case *maruv1.NotifyServiceAddRequest_Email:
		r.Kind = maru.ReceiverEmail
		t = maru.ReceiverTarget{To: target.Email.To, From: target.Email.From, Server: target.Email.Server, Password: target.Email.Password}
	default:
		return nil, maru.Errorf(maru.Invalid, "where the receiver is, is missing")
	}
	made, secret, err := receivers.Add(ctx, callerName(ctx), r, t)
	if err != nil {
		return nil, err
	}
	return &maruv1.NotifyServiceAddResponse{Receiver: receiverProto(maru.ReceiverStatus{Receiver: made}), Secret: secret}, nil
}

func (s notifyService) List(ctx context.Context, req *maruv1.NotifyServiceListRequest) (*maruv1.NotifyServiceListResponse, error) {
	receivers, err := s.receivers()
	if err != nil {
		return nil, err
	}
	all, err := receivers.Receivers(ctx, fromScope(req.Scope))
	if err != nil {
		return nil, err
	}
	res := &maruv1.NotifyServiceListResponse{}
	for _, r := range all {
		res.Receivers = append(res.Receivers, receiverProto(r))
	}
	return res, nil
}

func (s notifyService) Remove(ctx context.Context, req *maruv1.NotifyServiceRemoveRequest) (*maruv1.NotifyServiceRemoveResponse, error) {
	receivers, err := s.receivers()
	if err != nil {
		return nil, err
	}
	return &maruv1.NotifyServiceRemoveResponse{}, receivers.Remove(ctx, callerName(ctx), fromScope(req.Scope), req.Name)
}

func (s notifyService) Test(ctx context.Context, req *maruv1.NotifyServiceTestRequest) (*maruv1.NotifyServiceTestResponse, error) {
	receivers, err := s.receivers()
	if err != nil {
		return nil, err
	}
	return &maruv1.NotifyServiceTestResponse{}, receivers.Test(ctx, callerName(ctx), fromScope(req.Scope), req.Name)
}

func receiverProto(r maru.ReceiverStatus) *maruv1.Receiver {
	p := &maruv1.Receiver{
		Scope: scopeProto(r.Scope), Name: r.Name, Kind: string(r.Kind), Address: valid(r.Address), Private: r.Private,
		Created: timeProto(r.Created), By: r.By, Waiting: int32(r.Waiting), GivenUp: int32(r.GivenUp), Error: valid(r.Error), Next: timeProto(r.Next),
	}
	for _, topic := range r.Topics {
		p.Topics = append(p.Topics, string(topic))
	}
	return p
}
