package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// doraTime is what figures are of when nobody says.
const doraTime = 30 * 24 * time.Hour

// doraPeriods is the most days or weeks that are told at once.
const doraPeriods = 1000

// deliveryService tells how software delivery goes.
type deliveryService struct{ *Server }

func (s deliveryService) Dora(ctx context.Context, req *maruv1.DoraRequest) (*maruv1.DoraResponse, error) {
	if s.deps.Performance == nil {
		return nil, unsupported("figures of delivery")
	}
	q, err := doraQuestion(req, time.Now())
	if err != nil {
		return nil, err
	}
	all, err := s.deps.Performance.Dora(ctx, fromScope(req.Scope), q)
	if err != nil {
		return nil, err
	}
	res := &maruv1.DoraResponse{}
	for _, d := range all {
		res.Apps = append(res.Apps, doraProto(d))
	}
	return res, nil
}

func doraQuestion(req *maruv1.DoraRequest, now time.Time) (maru.DoraQuestion, error) {
	q := maru.DoraQuestion{Since: fromTime(req.Since), Until: fromTime(req.Until), By: maru.DoraPeriodLength(req.By)}
	if q.Until.IsZero() {
		q.Until = now
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-doraTime)
	}
	if !q.Since.Before(q.Until) {
		return q, maru.Errorf(maru.Invalid, "the time ends before it begins: from %s to %s", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339))
	}
	var err error
	if q.Location, err = time.LoadLocation(req.TimeZone); err != nil || req.TimeZone == "Local" {
		return q, maru.WithHint(maru.Errorf(maru.Invalid, "the server does not know the time zone %q", req.TimeZone),
			"use a name of the IANA's, such as Europe/Berlin; the package tzdata has them")
	}
	length := 24 * time.Hour
	switch q.By {
	case "", maru.DoraDay:
	case maru.DoraWeek:
		length *= 7
	default:
		return q, maru.WithHint(maru.Errorf(maru.Invalid, "figures by %q are unknown", req.By), "use day or week")
	}
	if q.By != "" && q.Until.Sub(q.Since)/length > doraPeriods {
		return q, maru.WithHint(maru.Errorf(maru.Invalid, "that is more than %d periods", doraPeriods), "ask for a shorter time")
	}
	return q, nil
}

func doraProto(d maru.Dora) *maruv1.Dora {
	out := &maruv1.Dora{
		Scope: scopeProto(d.Scope), Since: timeProto(d.Since), Until: timeProto(d.Until), Incomplete: d.Incomplete,
		Total: doraFiguresProto(d.Total),
		Bands: &maruv1.DoraBands{
			Frequency: string(d.Bands.Frequency), LeadTime: string(d.Bands.LeadTime),
			FailureRate: string(d.Bands.FailureRate), Restore: string(d.Bands.Restore),
		},
	}
	for _, p := range d.Periods {
		out.Periods = append(out.Periods, &maruv1.DoraPeriod{Start: timeProto(p.Start), Figures: doraFiguresProto(p.DoraFigures)})
	}
	return out
}

func doraFiguresProto(f maru.DoraFigures) *maruv1.DoraFigures {
	return &maruv1.DoraFigures{
		Deployments: int32(f.Deployments), PerDay: f.PerDay, WithoutCommit: int32(f.WithoutCommit), Stopped: int32(f.Stopped),
		LeadTime: spreadProto(f.LeadTime), Undated: int32(f.Undated),
		Failed: int32(f.Failed), FailureRate: f.FailureRate, Restore: spreadProto(f.Restore), Open: int32(f.Open),
	}
}

func spreadProto(s maru.Spread) *maruv1.Spread {
	return &maruv1.Spread{Count: int32(s.Count), Median: durationpb.New(s.Median), P90: durationpb.New(s.P90)}
}
