package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// limitFields and concurrencyFields are the keys of x-maru.route.limit and concurrency.
var (
	limitFields       = []string{"burst", "by", "rate"}
	concurrencyFields = []string{"by", "requests"}
	quotaFields       = []string{"by", "rate"}
)

// rateLimits reads one limit or a list of them: a rate, or a mapping.
func (d decoder) rateLimits(n *node, path string) []maru.RateLimit {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != listNode {
		return []maru.RateLimit{d.limit(n, path)}
	}
	var all []maru.RateLimit
	for i, item := range n.items {
		all = append(all, d.limit(item, joinIndex(path, i)))
	}
	return all
}

func (d decoder) limit(n *node, path string) maru.RateLimit {
	var l maru.RateLimit
	rate, at := n, path
	if n.kind != scalarNode {
		if !d.mapping(n, path, limitFields...) {
			return l
		}
		l.Burst = d.integer(n.get("burst"), joinKey(path, "burst"), 1, 1_000_000)
		l.By = d.limitBy(n.get("by"), joinKey(path, "by"), "address", "all", "token", "user")
		if rate, at = n.get("rate"), joinKey(path, "rate"); rate == nil {
			d.invalid(n, path, "lacks the rate", "write limit: {rate: 100/s, by: address}")
			return l
		}
	}
	l.Requests, l.Per = d.rate(rate, at)
	return l
}

// periods are what a rate can be per.
var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// rate reads how often something may happen, such as 100/s or 20/15m.
func (d decoder) rate(n *node, path string) (count int, per time.Duration) {
	before, after, _ := strings.Cut(n.text(), "/")
	count, err := strconv.Atoi(strings.TrimSpace(before))
	after = strings.TrimSpace(after)
	per = periods[after]
	if per == 0 {
		var failed error
		if per, failed = parseDuration(after); failed != nil || after == "" {
			per = 0
		}
	}
	if n.kind != scalarNode || err != nil || count < 1 || count > 1_000_000 || per < time.Second {
		d.invalid(n, path, fmt.Sprintf("%q is not a rate", n.text()), "write it as 100/s, 600/m, 1000/h or 20/15m, of at most 1000000")
		return 0, 0
	}
	return count, per
}

// limitBy reads what tells clients apart: one of the words, or {header: NAME}.
func (d decoder) limitBy(n *node, path string, words ...string) maru.LimitBy {
	switch {
	case n == nil || n.kind == nullNode:
		return maru.LimitBy{}
	case n.kind != mappingNode:
		return maru.LimitBy{What: d.choice(n, path, words...)}
	case !d.mapping(n, path, "header"):
		return maru.LimitBy{}
	}
	name := d.text(n.get("header"), joinKey(path, "header"))
	if !headerForm.MatchString(name) {
		d.invalid(n, path, "names no header", "write by: {header: X-Tenant}")
	}
	return maru.LimitBy{Header: name}
}

// quotas reads one quota or a list of them: so many requests in a period of the calendar, or a mapping.
func (d decoder) quotas(n *node, path string) []maru.Quota {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != listNode {
		return []maru.Quota{d.quota(n, path)}
	}
	var all []maru.Quota
	for i, item := range n.items {
		all = append(all, d.quota(item, joinIndex(path, i)))
	}
	return all
}

func (d decoder) quota(n *node, path string) maru.Quota {
	var q maru.Quota
	rate, at := n, path
	if n.kind != scalarNode {
		if !d.mapping(n, path, quotaFields...) {
			return q
		}
		q.By = d.choice(n.get("by"), joinKey(path, "by"), "user", "token")
		if rate, at = n.get("rate"), joinKey(path, "rate"); rate == nil {
			d.invalid(n, path, "lacks how many", "write quota: {rate: 10000/day, by: token}")
			return q
		}
	}
	before, per, _ := strings.Cut(rate.text(), "/")
	count, err := strconv.ParseInt(strings.TrimSpace(before), 10, 64)
	q.Requests, q.Per = count, maru.QuotaTerm(strings.TrimSpace(per))
	if rate.kind != scalarNode || err != nil || count < 1 || count > 1_000_000_000_000 || !slices.Contains([]maru.QuotaTerm{maru.HourQuota, maru.DayQuota, maru.MonthQuota}, q.Per) {
		d.invalid(rate, at, fmt.Sprintf("%q is not a quota", rate.text()), "write it as 1000/hour, 10000/day or 1000000/month")
	}
	return q
}

func (d decoder) routeConcurrency(n *node, path string) *maru.ConcurrencyLimit {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind == scalarNode {
		return &maru.ConcurrencyLimit{Requests: d.integer(n, path, 1, 1_000_000)}
	}
	if !d.mapping(n, path, concurrencyFields...) {
		return nil
	}
	c := &maru.ConcurrencyLimit{
		Requests: d.integer(n.get("requests"), joinKey(path, "requests"), 1, 1_000_000),
		By:       d.limitBy(n.get("by"), joinKey(path, "by"), "address", "all", "token", "user"),
	}
	if !slices.Contains(n.names, "requests") {
		d.invalid(n, path, "lacks how many", "write concurrency: {requests: 10, by: address}")
	}
	return c
}
