package server

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func fromScope(s *maruv1.Scope) maru.Scope {
	return maru.Scope{Project: s.GetProject(), Environment: s.GetEnvironment(), App: s.GetApp()}
}

func scopeProto(s maru.Scope) *maruv1.Scope {
	return &maruv1.Scope{Project: s.Project, Environment: s.Environment, App: s.App}
}

// timeProto leaves the zero time out.
func timeProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// fromStruct decodes the JSON form of v, refusing what v does not have.
func fromStruct[T any](s *structpb.Struct) (T, error) {
	var v T
	// encoding/json writes whole numbers without an exponent, which integers are decoded from.
	data, err := json.Marshal(s.AsMap())
	if err != nil {
		return v, maru.Errorf(maru.Invalid, "the app can't be read: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	// What an older server does not know might be what keeps an app safe: it must not be dropped.
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return v, maru.WithHint(maru.Errorf(maru.Invalid, "the app can't be read: %w", err),
			"the client and the server may be of versions too far apart: compare them with `maru version`")
	}
	return v, nil
}

// structProto gives the JSON form of one of the nouns.
func structProto(v any) *structpb.Struct {
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON(maru.Raw(v)); err != nil {
		panic("server: " + err.Error()) // the nouns are JSON objects
	}
	return s
}

func rolloutProto(r maru.Rollout) *maruv1.Rollout {
	services := make(map[string]*maruv1.ServiceRollout, len(r.Services))
	for name, s := range r.Services {
		services[name] = &maruv1.ServiceRollout{
			From: int32(s.From), To: int32(s.To), Phase: string(s.Phase), Since: timeProto(s.Since), Reason: valid(s.Reason),
			Step: int32(s.Step), Stepped: timeProto(s.Stepped), Held: s.Held, Verdict: verdictProto(s.Verdict), After: string(s.After), AfterReason: valid(s.AfterReason),
		}
	}
	return &maruv1.Rollout{
		Scope: scopeProto(r.Scope), Number: int32(r.Number), Phase: string(r.Phase), Services: services,
		Removed: r.Removed, Reason: r.Reason, Cause: r.Cause, Of: int32(r.Of), By: r.By,
		Started: timeProto(r.Started), Ended: timeProto(r.Ended), Paused: r.Paused,
	}
}

func releaseProto(r maru.Release, serving bool, verdict *maru.Verdict) *maruv1.Release {
	secrets := make(map[string]*maruv1.SecretVersion, len(r.Secrets))
	for name, v := range r.Secrets {
		secrets[name] = &maruv1.SecretVersion{Name: v.Name, Version: int32(v.Version)}
	}
	return &maruv1.Release{
		Scope: scopeProto(r.Service.Scope), Service: r.Service.Service, Number: int32(r.Number), Image: r.Image,
		Spec: structProto(r.Spec), Secrets: secrets, Source: r.Source, Created: timeProto(r.Created),
		By: r.By, Message: r.Message, Serving: serving, Verdict: verdictProto(verdict),
	}
}

func instanceProto(w maru.WorkloadID, i maru.Instance) *maruv1.Instance {
	p := &maruv1.Instance{
		Id: i.ID, Service: w.Service, Workload: w.Name,
		AddressV4: addressText(i.Addresses.V4), AddressV6: addressText(i.Addresses.V6),
		Phase: string(i.Phase), Ready: i.Ready, Message: i.Message, Attempt: int32(i.Attempt),
		Created: timeProto(i.Created), Started: timeProto(i.Started), ReadySince: timeProto(i.ReadySince),
		NextStart: timeProto(i.NextStart),
	}
	if e := i.LastExit; e != nil {
		p.LastExit = &maruv1.Exit{
			Code: int32(e.Code), Signal: e.Signal, OutOfMemory: e.OutOfMemory, Probe: e.Probe,
			At: timeProto(e.At), LastLines: validLines(e.LastLines),
		}
	}
	return p
}

func eventProto(e maru.Event) *maruv1.Event {
	return &maruv1.Event{
		Time: timeProto(e.Time), Scope: scopeProto(e.Scope), Service: e.Service, Release: int32(e.Release),
		Rollout: int32(e.Rollout), Instance: e.Instance, Type: e.Type, Message: valid(e.Message), By: e.By,
	}
}

func imageProto(i maru.Image) *maruv1.Image {
	return &maruv1.Image{
		Reference: i.Reference, Names: i.Names, Platform: i.Platform, Bytes: i.Bytes, Created: timeProto(i.Created),
	}
}

func imagesProto(images []maru.Image) []*maruv1.Image {
	out := make([]*maruv1.Image, len(images))
	for i, image := range images {
		out[i] = imageProto(image)
	}
	return out
}

func tokenProto(t maru.Token) *maruv1.Token {
	return &maruv1.Token{
		Id: t.ID, Name: t.Name, Role: string(t.Role), Scope: scopeProto(t.Scope), Created: timeProto(t.Created),
		Expires: timeProto(t.Expires), LastUsed: timeProto(t.LastUsed), By: t.By, SshKeys: t.SSHKeys,
	}
}

func grantProto(g maru.Grant) *maruv1.Grant {
	return &maruv1.Grant{Scope: scopeProto(g.Scope), Ability: g.Ability, Created: timeProto(g.Created), By: g.By}
}

func usageProto(w maru.WorkloadID, u maru.Usage) *maruv1.Usage {
	return &maruv1.Usage{
		Scope: scopeProto(w.Scope), Service: w.Service, Instance: u.Instance, Cpu: durationpb.New(u.CPU),
		Memory: u.Memory, MemoryLimit: u.MemoryLimit, Pids: u.PIDs, ReadBytes: u.ReadBytes, WriteBytes: u.WriteBytes,
	}
}
