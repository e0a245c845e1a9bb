package forward

import (
	"errors"
	"strconv"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// trial is what becomes of a request that was drawn between two releases. What counts is the first instance
// that it was sent to: that another one saved the request is nothing that the release can be praised for.
type trial struct {
	table.Draw
	split  *maru.Split
	asked  bool // the instance was of the release that was drawn
	ended  bool // it is known what became of it
	failed bool
	took   time.Duration
}

// draw says which release the request goes to, if a rollout shares requests out.
func (x *exchange) draw(s *table.State) {
	client := ""
	if x.call.Door == Mesh {
		client = x.r.Name
	}
	x.trial = trial{Draw: s.Draw(x.r, client), split: s.Split}
	if x.trial.Mirror {
		x.mirror()
	}
}

// attempted notes how the first instance did until its answer began.
func (x *exchange) attempted(ep *table.Endpoint, res *message.Response, err error) {
	t := &x.trial
	if t.Weight == 0 || t.ended {
		return
	}
	t.ended, t.asked = true, ep.Release == t.Release && ep.Baseline == t.Baseline
	t.took = x.entry.Time.Add(x.entry.Upstream).Sub(x.picked)
	switch {
	case err == nil:
		t.failed = failure(res.Status) || x.grpc && failureGRPC(res.Header.Get("Grpc-Status"))
	case x.ended() != nil && !errors.Is(x.ended(), errTimeout):
		t.took = x.e.now().Sub(x.picked) // the client did not wait any longer: at least that long
	default:
		t.failed = true
	}
}

// judged tells whoever judges the release how the request went.
func (x *exchange) judged() {
	t := &x.trial
	if t.Weight == 0 || !t.ended || !t.asked || !t.split.Judged {
		return
	}
	short := x.cut && x.entry.Error != errClientGone.Error() && x.entry.Error != ""
	if t.failed = t.failed || (short || failureGRPC(x.status)) && x.entry.Attempts == 1; t.failed {
		t.took = 0
	}
	x.e.cfg.Evidence.Put(x.call.Service.ID, t.split, maru.EvidenceRecord{
		New: t.New, Failed: t.failed, Latency: t.took, At: x.e.now(), Weight: t.Weight, Baseline: t.split.Baseline,
	})
	t.Weight = 0 // once
}

// know has a client that is drawn for the first time keep by what it is known.
func (x *exchange) know() {
	if x.trial.Client == 0 || x.call.Door == Mesh {
		return
	}
	value := table.ClientCookie + "=" + strconv.FormatUint(x.trial.Client, 16) + "; Path=/; Max-Age=" +
		strconv.Itoa(int(x.trial.split.Sticky/time.Second)) + "; HttpOnly; SameSite=Lax"
	if x.entry.Scheme == "https" {
		value += "; Secure"
	}
	x.answer.Header.Add("Set-Cookie", value)
}
