package forward

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

const (
	mostRecorded  = 64                     // requests of a service that are kept
	recordGap     = 100 * time.Millisecond // between two that are kept
	recordedBytes = 8 << 10                // of one at most
	idleCheck     = time.Second            // how often it is looked whether there is a rollout to replay for
)

// replayedHeader tells the service that nobody waits for the answer.
const replayedHeader = "X-Maru-Replay"

// recordedFields are those of a request's header that are kept: none says who asked.
var recordedFields = []string{"Accept", "Accept-Encoding", "Accept-Language", "User-Agent", "X-Forwarded-Host", "X-Forwarded-Proto"}

// secretWords are what names of query parameters contain whose values let somebody in.
var secretWords = []string{"token", "key", "secret", "sign", "pass", "auth", "code", "session", "credential"}

// recorders keep safe requests of services whose rollouts want them replayed.
type recorders struct {
	mu   sync.Mutex
	by   map[maru.ServiceID]*recorder
	over bool // nothing is replayed any more
	done chan struct{}
}

// recorder has the newest requests of one service, with nothing in them of who asked, and sends them again while
// a rollout is judged.
type recorder struct {
	mu   sync.Mutex
	last time.Time
	kept []recorded
}

type recorded struct {
	out   http1.Outgoing
	port  uint16
	http2 bool
}

// record keeps the request if it can be sent again without harm.
func (x *exchange) record() {
	r := x.r
	if !r.Repeatable() || len(r.Target) > recordedBytes || secretQuery(r.Target) {
		return
	}
	k := x.e.recorders.of(x.e, x.call.Service)
	if k == nil || !k.due(x.picked) {
		return
	}
	x.prepare()
	one := recorded{port: x.call.Port, http2: x.overHTTP2(), out: http1.Outgoing{
		Method: strings.Clone(x.out.Method), Target: strings.Clone(x.out.Target), Host: strings.Clone(x.out.Host),
		Hurry: true, Interim: func(int, message.Header) error { return nil },
	}}
	for _, f := range x.out.Header {
		if slices.ContainsFunc(recordedFields, func(name string) bool { return strings.EqualFold(name, f.Name) }) {
			one.out.Header = append(one.out.Header, message.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
		}
	}
	one.out.Header = append(one.out.Header, message.Field{Name: replayedHeader, Value: "1"})
	k.keep(one)
}

// secretQuery tells whether a parameter of the query looks like one that lets somebody in.
func secretQuery(target string) bool {
	_, query, _ := strings.Cut(target, "?")
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		name = strings.ToLower(name)
		if slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) }) {
			return true
		}
	}
	return false
}

// of gives a service's recorder, which replays from then on; nil once nothing is.
func (rs *recorders) of(e *Engine, s *table.Service) *recorder {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if k := rs.by[s.ID]; k != nil || rs.over {
		return k
	}
	k := &recorder{}
	rs.by[s.ID] = k
	go func() {
		k.replay(e, s, rs.done)
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.by, s.ID)
	}()
	return k
}

// end ends all replaying.
func (rs *recorders) end() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !rs.over {
		rs.over = true
		close(rs.done)
	}
}

func (k *recorder) due(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.last) < recordGap {
		return false
	}
	k.last = now
	return true
}

func (k *recorder) keep(one recorded) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == mostRecorded {
		k.kept[rand.IntN(mostRecorded)] = one
		return
	}
	k.kept = append(k.kept, one)
}

// any gives one of the requests.
func (k *recorder) any() (one recorded, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == 0 {
		return one, false
	}
	one = k.kept[rand.IntN(len(k.kept))]
	one.out.Header = slices.Clone(one.out.Header)
	return one, true
}

// replay sends requests to one of the two releases, drawn evenly, as often as the service's rollout says, until the
// service is gone or wants none.
func (k *recorder) replay(e *Engine, s *table.Service, done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := s.Changed()
		state := s.State()
		if state.Removed || state.Replay <= 0 {
			return
		}
		gap := idleCheck
		if state.Split != nil && state.Split.Judged && state.Compared() {
			gap = time.Second / time.Duration(state.Replay)
			k.once(e, s, state)
			changed = nil
		}
		timer.Reset(gap)
		select {
		case <-timer.C:
		case <-changed:
		case <-done:
			return
		}
	}
}

// once replays a request, if there is room.
func (k *recorder) once(e *Engine, s *table.Service, state *table.State) {
	one, ok := k.any()
	if !ok {
		return
	}
	select {
	case e.mirrors <- struct{}{}:
	default:
		return
	}
	now := e.now()
	fresh := rand.IntN(2) == 1
	ep := s.Side(fresh, now.UnixNano())
	if ep == nil {
		<-e.mirrors
		return
	}
	c := shadow{e: e, ep: ep, port: one.port, http2: one.http2, split: state.Split, began: now, out: one.out}
	c.out.Now = now
	c.evidence = maru.EvidenceRecord{New: fresh, Weight: float64(state.Weight()) / 100, Replayed: true, Baseline: state.Split.Baseline}
	go func() {
		defer func() { <-e.mirrors }()
		c.run()
	}()
}
