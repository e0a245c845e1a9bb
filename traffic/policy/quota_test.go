package policy

import (
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func TestQuotaPeriods(t *testing.T) {
	for _, c := range []struct {
		per               maru.QuotaTerm
		now, begins, ends string
	}{
		{maru.HourQuota, "2026-12-31T23:59:59Z", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"},
		{maru.DayQuota, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{maru.MonthQuota, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{maru.MonthQuota, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{maru.DayQuota, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		q := quota{Quota: maru.Quota{Per: c.per}}
		if begins, ends := q.begins(now).Format(time.RFC3339), q.ends(now).Format(time.RFC3339); begins != c.begins || ends != c.ends {
			t.Errorf("%s of %s: %s to %s", c.per, c.now, begins, ends)
		}
	}
	for _, q := range []maru.Quota{{}, {Requests: 1}, {Requests: 1, Per: "week"}, {Requests: 1, Per: "day", By: "address"}, {Per: "day"}} {
		if _, err := newQuotas([]maru.Quota{q}, ""); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%+v: %v", q, err)
		}
	}
	q := quota{Quota: maru.Quota{Requests: 1, Per: "day", By: "user"}, claim: "a/"}
	more := quota{Quota: maru.Quota{Requests: 2, Per: "day", By: "user"}, claim: "a/"}
	if q.key("s", "ada") != more.key("s", "ada") || q.key("s", "ada") == q.key("s", "bob") || q.key("s", "ada") == q.key("t", "ada") {
		t.Error("shares are mixed up")
	}
}
