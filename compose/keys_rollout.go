package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// rolloutKeys are what a service says of how it moves from one release to the next.
type rolloutKeys struct {
	strategy maru.Strategy
	deadline time.Duration
	parallel int
	shift    *maru.Shift // of canary and blue-green
}

// shiftKeys are the keys of x-maru.rollout for canary and blue-green.
var shiftKeys = []string{"baseline", "for", "judge", "keep", "match", "mirror", "patience", "replay", "requests", "steps", "sticky", "warmup"}

// Defaults of a shift that are filled in here, so that one sees them.
const (
	stepFor      = time.Minute
	stepRequests = 100
	keepFor      = 10 * time.Minute
	stickyFor    = time.Hour
	mirrorFor    = time.Minute

	replayDefault = 10 // requests in a second
	mostSteps     = 20
)

func (d decoder) rollout(n *node, path string) rolloutKeys {
	var k rolloutKeys
	if n == nil || n.kind == nullNode {
		return k
	}
	strategy, at := n, path
	if n.kind != scalarNode {
		if !d.mapping(n, path, slices.Concat([]string{"strategy", "deadline", "parallel"}, shiftKeys)...) {
			return k
		}
		strategy, at = n.get("strategy"), joinKey(path, "strategy")
		k.deadline = d.duration(n.get("deadline"), joinKey(path, "deadline"))
		k.parallel = d.integer(n.get("parallel"), joinKey(path, "parallel"), 0, 1000)
	}
	k.strategy = maru.Strategy(d.choice(strategy, at, "rolling", "recreate", "canary", "blue-green"))
	if k.strategy == maru.Canary || k.strategy == maru.BlueGreen {
		if n.kind == scalarNode {
			n = &node{kind: mappingNode, key: n.key, pos: n.pos, fields: map[string]*node{}}
		}
		k.shift = d.shift(n, path, k.strategy)
		return k
	}
	for _, name := range shiftKeys {
		if field := n.get(name); n.kind == mappingNode && field != nil {
			d.l.warn(field.key, joinKey(path, name), "has no effect on a rollout that is neither canary nor blue-green", "leave "+name+" out, or write strategy: canary")
		}
	}
	return k
}

func (d decoder) shift(n *node, path string, strategy maru.Strategy) *maru.Shift {
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	s := &maru.Shift{Patience: d.duration(at("patience"))}
	if warmup := n.get("warmup"); warmup != nil && warmup.kind == scalarNode && warmup.text() == "0" {
		s.Warmup = -1
	} else {
		s.Warmup = d.duration(at("warmup"))
	}
	s.Match = d.shiftMatches(at("match"))
	s.Sticky = d.sticky(at("sticky"))
	s.Mirror = d.mirror(at("mirror"))
	s.Replay = d.replay(at("replay"))
	s.Baseline = d.choice(n.get("baseline"), joinKey(path, "baseline"), "serving", "fresh") == "fresh"
	s.Steps = d.steps(n, path, strategy, len(s.Match) > 0)
	s.Judge = d.judge(at("judge"))
	if n.get("judge") == nil && (len(s.Steps) > 0 || s.Mirror != nil) {
		s.Judge = &maru.JudgeLimits{}
	}
	if s.Judge != nil && len(s.Steps) > 0 && s.Steps[len(s.Steps)-1].Weight == 0 {
		d.invalid(n.get("steps"), joinKey(path, "steps"), "never shares any requests out by chance, so that there is nothing to judge by",
			"end with a step such as 50%, or write judge: false")
	}
	d.checkBaseline(n, path, s)
	keep, keepPath := at("keep")
	switch {
	case keep != nil && strategy == maru.Canary:
		d.l.warn(keep.key, keepPath, "has no effect on a canary: the old release stays whole until the new one has all of the traffic", "leave keep out")
	case keep != nil && keep.kind == scalarNode && keep.text() == "0":
	case keep != nil:
		s.Keep = d.duration(keep, keepPath)
	case strategy == maru.BlueGreen:
		s.Keep = keepFor
	}
	return s
}

// checkBaseline reports what a fresh baseline does not go with.
func (d decoder) checkBaseline(n *node, path string, s *maru.Shift) {
	switch field := n.get("baseline"); {
	case !s.Baseline:
	case s.Mirror != nil:
		d.invalid(n.get("mirror"), joinKey(path, "mirror"), "copies requests that what serves answers, not a fresh baseline", "leave mirror out, or baseline")
	case s.Judge == nil:
		d.l.warn(field.key, joinKey(path, "baseline"), "has no effect where nobody compares", "leave baseline out, or have a judge and steps")
	}
}

// steps reads shares, or mappings that say more of each.
func (d decoder) steps(n *node, path string, strategy maru.Strategy, matched bool) []maru.ShiftStep {
	all := n.get("steps")
	least := d.duration(n.get("for"), joinKey(path, "for"))
	requests := d.integer(n.get("requests"), joinKey(path, "requests"), 1, 1_000_000)
	path = joinKey(path, "steps")
	var out []maru.ShiftStep
	switch {
	case all == nil || all.kind == nullNode:
		if strategy == maru.Canary {
			out = []maru.ShiftStep{{Weight: 5}, {Weight: 25}, {Weight: 50}}
		}
	case all.kind != listNode:
		d.invalid(all, path, fmt.Sprintf("is %s; it must be a list of shares", all.kind), "write it as [5%, 25%, 50%]")
		return nil
	case len(all.items) > mostSteps:
		d.invalid(all, path, fmt.Sprintf("has more than %d steps", mostSteps), "")
		return nil
	default:
		out = d.stepList(all, path, matched)
	}
	for i := range out {
		s := &out[i]
		if s.For == 0 {
			s.For = max(least, stepFor)
			if least > 0 {
				s.For = least
			}
		}
		if s.Requests == 0 {
			s.Requests = stepRequests
			if requests > 0 {
				s.Requests = requests
			}
		}
	}
	return out
}

func (d decoder) stepList(all *node, path string, matched bool) []maru.ShiftStep {
	var out []maru.ShiftStep
	last := -1
	for i, item := range all.items {
		at := joinIndex(path, i)
		s, weight := maru.ShiftStep{}, item
		if item.kind == mappingNode {
			if !d.mapping(item, at, "weight", "for", "requests", "replicas", "pause") {
				continue
			}
			key := func(name string) (*node, string) { return item.get(name), joinKey(at, name) }
			s.For = d.duration(key("for"))
			requests, requestsPath := key("requests")
			s.Requests = d.integer(requests, requestsPath, 1, 1_000_000)
			replicas, replicasPath := key("replicas")
			s.Replicas = d.integer(replicas, replicasPath, 1, 1000)
			s.Pause = d.boolean(key("pause"))
			if weight = item.get("weight"); weight == nil {
				d.invalid(item, at, "lacks its weight", "write it as {weight: 25%, for: 5m}")
				continue
			}
		}
		s.Weight = d.share(weight, at)
		switch {
		case s.Weight < 0:
			continue
		case s.Weight == 0 && !matched:
			d.invalid(item, at, "shares nothing out, and match names no requests for it", "begin with 1% or more, or add match")
		case s.Weight <= last:
			d.invalid(item, at, fmt.Sprintf("is not more than the step before, %d%%", last), "have the shares grow: [5%, 25%, 50%]")
		}
		last = s.Weight
		out = append(out, s)
	}
	return out
}

// share reads a whole percent from 0 to 99; -1 if it is none.
func (d decoder) share(n *node, path string) int {
	value, err := strconv.Atoi(strings.TrimSuffix(n.text(), "%"))
	switch {
	case n.kind == scalarNode && err == nil && value == 100:
		d.invalid(n, path, "is all of the traffic, which comes behind the last step by itself", "leave 100% out")
		return -1
	case n.kind != scalarNode || err != nil || value < 0 || value > 99:
		d.invalid(n, path, "must be a whole percent from 0 to 99", "write it as 5%")
		return -1
	}
	return value
}

// shiftMatches reads one kind of requests or a list of them.
func (d decoder) shiftMatches(n *node, path string) []maru.ShiftMatch {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != listNode {
		return []maru.ShiftMatch{d.shiftMatch(n, path)}
	}
	var all []maru.ShiftMatch
	for i, item := range n.items {
		all = append(all, d.shiftMatch(item, joinIndex(path, i)))
	}
	return all
}

func (d decoder) shiftMatch(n *node, path string) maru.ShiftMatch {
	var m maru.ShiftMatch
	if !d.mapping(n, path, "headers", "cookies", "to") {
		return m
	}
	m.Headers = d.headers(n.get("headers"), joinKey(path, "headers"))
	cookies, at := n.get("cookies"), joinKey(path, "cookies")
	m.Cookies = d.stringMap(cookies, at)
	for name := range m.Cookies {
		if !headerForm.MatchString(name) {
			d.invalid(cookies.get(name), joinKey(at, name), "is not a name that a cookie can have", "")
		}
	}
	m.Old = d.choice(n.get("to"), joinKey(path, "to"), "new", "old") == "old"
	if len(m.Headers)+len(m.Cookies) == 0 {
		d.invalid(n, path, "names no requests", "write it as {headers: {X-Canary: always}} or {cookies: {beta: yes}}")
	}
	return m
}

// sticky reads true, or for how long a client stays with its release.
func (d decoder) sticky(n *node, path string) time.Duration {
	if n == nil || n.kind == nullNode {
		return 0
	}
	if on, err := strconv.ParseBool(n.text()); n.kind == scalarNode && err == nil {
		if on {
			return stickyFor
		}
		return 0
	}
	s := d.duration(n, path)
	if s > 0 && s < time.Second {
		d.invalid(n, path, "is less than a second", "write it as 1h")
	}
	return s
}

// replay reads true, or how many requests in a second.
func (d decoder) replay(n *node, path string) int {
	if n == nil || n.kind == nullNode {
		return 0
	}
	switch n.text() {
	case "true":
		return replayDefault
	case "false":
		return 0
	}
	value, err := strconv.Atoi(strings.TrimSuffix(n.text(), "/s"))
	if n.kind != scalarNode || err != nil || value < 1 || value > maru.MostReplay {
		d.invalid(n, path, fmt.Sprintf("must be true, or from 1/s to %d/s", maru.MostReplay), fmt.Sprintf("write replay: %d/s", replayDefault))
		return 0
	}
	return value
}

func (d decoder) mirror(n *node, path string) *maru.Mirror {
	if n == nil || n.kind == nullNode {
		return nil
	}
	m := &maru.Mirror{For: mirrorFor}
	percent, at := n, path
	if n.kind == mappingNode {
		if !d.mapping(n, path, "percent", "for") {
			return nil
		}
		if least := d.duration(n.get("for"), joinKey(path, "for")); least > 0 {
			m.For = least
		}
		if percent, at = n.get("percent"), joinKey(path, "percent"); percent == nil {
			m.Percent = 100
			return m
		}
	}
	value, err := strconv.Atoi(strings.TrimSuffix(percent.text(), "%"))
	if percent.kind != scalarNode || err != nil || value < 1 || value > 100 {
		d.invalid(percent, at, "must be a whole percent from 1 to 100", "write it as 10%")
		return nil
	}
	m.Percent = value
	return m
}

// judge reads the limits, or false for none at all.
func (d decoder) judge(n *node, path string) *maru.JudgeLimits {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind == scalarNode {
		if d.boolean(n, path) {
			return &maru.JudgeLimits{}
		}
		return nil
	}
	if !d.mapping(n, path, "errors", "p50", "p95", "p99", "latency", "margins") {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	l := &maru.JudgeLimits{P50: d.duration(at("p50")), P95: d.duration(at("p95")), P99: d.duration(at("p99"))}
	l.Errors = d.part(at("errors"))
	if compared, latencyPath := at("latency"); compared != nil {
		l.AnyLatency = !d.boolean(compared, latencyPath)
	}
	margins, marginsPath := at("margins")
	if margins == nil || margins.kind == nullNode || !d.mapping(margins, marginsPath, "errors", "error_ratio", "latency") {
		return l
	}
	of := func(key string) (*node, string) { return margins.get(key), joinKey(marginsPath, key) }
	l.ErrorMargin = d.part(of("errors"))
	l.ErrorRatioMargin = d.factor(of("error_ratio"))
	l.LatencyMargin = d.factor(of("latency"))
	return l
}

// part reads a percent below 100 as a part of 1.
func (d decoder) part(n *node, path string) float64 {
	p := d.percent(n, path)
	if p == 100 {
		d.invalid(n, path, "must be less than 100 percent", "write it as 1%")
	}
	return p / 100
}

// factor reads a percent of any size as a part of 1.
func (d decoder) factor(n *node, path string) float64 {
	if n == nil || n.kind == nullNode {
		return 0
	}
	value, err := strconv.ParseFloat(strings.TrimSuffix(n.text(), "%"), 64)
	if n.kind != scalarNode || err != nil || !(value > 0 && value <= 10_000) {
		d.invalid(n, path, "must be more than 0 and at most 10000 percent", "write it as 50%")
		return 0
	}
	return value / 100
}

// checkShift reports what a canary or blue-green can't be done with.
func (s *service) checkShift(failureAction string, stopFirst bool) {
	where := []string{extensionKey, "rollout"}
	what := string(s.keys.rollout.strategy)
	if s.out.Kind == maru.Job {
		s.fail(maru.Invalid, "a service that runs to its end gets no traffic that could be shared out", "leave rollout out", where...)
	}
	if held := s.writable(); len(held) > 0 {
		s.fail(maru.Invalid, fmt.Sprintf("%s runs two releases at once, and both would write to what is mounted at %s", what, held[0].Target),
			"use recreate, which is the default for what writes to a volume; or mount it read_only", where...)
	}
	if s.out.DNSRoundRobin {
		s.fail(maru.Invalid, "callers pick the instances themselves, so that nothing can be shared out", "leave endpoint_mode out, or use rolling",
			"deploy", "endpoint_mode")
	}
	if failureAction == "pause" {
		s.fail(maru.Invalid, "a release that fails under "+what+" is always taken back", "leave failure_action out; maru rollout pause holds one that has not failed",
			"deploy", "update_config", "failure_action")
	}
	if stopFirst {
		s.fail(maru.Invalid, what+" keeps the old release whole", "leave order out", "deploy", "update_config", "order")
	}
}
