package policy

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// Quotas counts what was used of quotas.
type Quotas interface {
	// Take counts one more for a key, whose period ends then, unless most are used already. Used are those that were
	// used before.
	Take(key QuotaKey, ends time.Time, most int64) (used int64, ok bool)
}

// QuotaKey stands for a client's share of a quota. Who the client is can't be told from it.
type QuotaKey [16]byte

// quota bounds how many requests each client may send in a period.
type quota struct {
	maru.Quota
	claim string // of the route
	now   func() time.Time
}

func newQuotas(all []maru.Quota, claim string) (step, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var steps quotas
	for _, q := range all {
		q.By = cmp.Or(q.By, "user")
		switch {
		case q.Requests <= 0:
			return nil, maru.Errorf(maru.Invalid, "at least one request must be let through")
		case q.By != "user" && q.By != "token":
			return nil, maru.Errorf(maru.Invalid, "a quota can't be by %q", q.By)
		case q.Per != maru.HourQuota && q.Per != maru.DayQuota && q.Per != maru.MonthQuota:
			return nil, maru.Errorf(maru.Invalid, "there is no quota for a %q", q.Per)
		}
		steps = append(steps, quota{q, claim, time.Now})
	}
	return steps, nil
}

// quotas are several, all of which a request must keep.
type quotas []quota

func (all quotas) take(x *Exchange) *Answer {
	for _, one := range all {
		if a := one.take(x); a != nil {
			return a
		}
	}
	return nil
}

func (q quota) take(x *Exchange) *Answer {
	who := x.User
	if q.By == "token" {
		who = x.Token
	}
	if who == "" || x.env.Quotas == nil {
		return &Answer{
			Status: http.StatusForbidden, Title: "Not allowed", Reason: "nobody's quota",
			What: "Requests are counted here by who sends them, which is not known.", Do: "Send what you were given to come in with.",
		}
	}
	now := q.now().UTC()
	ends := q.ends(now)
	used, ok := x.env.Quotas.Take(q.key(x.env.Service.String(), who), ends, q.Requests)
	left := max(0, q.Requests-used-1)
	after := ends.Sub(now)
	fields := message.Header{
		{Name: "RateLimit-Policy", Value: fmt.Sprintf("%q;q=%d;w=%d", "quota-"+string(q.Per), q.Requests, wholeSeconds(ends.Sub(q.begins(now))))},
		{Name: "RateLimit", Value: fmt.Sprintf("%q;r=%d;t=%d", "quota-"+string(q.Per), left, wholeSeconds(after))},
	}
	if !ok {
		return &Answer{
			Status: http.StatusTooManyRequests, Title: "Quota used up", Reason: "the quota of the " + string(q.Per) + " is used up",
			What: fmt.Sprintf("You have used the %d requests that you have for the %s.", q.Requests, q.Per),
			Do:   "Wait until " + ends.Format("2006-01-02 15:04") + " UTC.", After: after, Header: fields,
		}
	}
	x.onBegin(func(r *message.Response) { r.Header = append(r.Header, fields...) })
	return nil
}

// begins and ends give the period that a moment is in.
func (q quota) begins(now time.Time) time.Time {
	switch q.Per {
	case maru.HourQuota:
		return now.Truncate(time.Hour)
	case maru.DayQuota:
		return time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	}
	return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func (q quota) ends(now time.Time) time.Time {
	switch from := q.begins(now); q.Per {
	case maru.HourQuota:
		return from.Add(time.Hour)
	case maru.DayQuota:
		return from.AddDate(0, 0, 1)
	default:
		return from.AddDate(0, 1, 0)
	}
}

// key says whose share of what it is. A quota whose number changes goes on with what was used.
func (q quota) key(service, who string) QuotaKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%s", service, q.claim, q.Per, q.By, who))
	return QuotaKey(sum[:16])
}
