package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

func of(commit string) func(*maru.Delivery) {
	return func(d *maru.Delivery) {
		d.Origin = &maru.Origin{Branch: "main", Commit: commit, Tree: "tree-" + commit}
	}
}

func TestTakenBack(t *testing.T) {
	back := unserved(maru.RolledBackPhase)
	for _, c := range []struct {
		name    string
		past    func(*chronicle)
		running string
		taken   string // commits, with a star where nothing stayed since
	}{
		{"nothing", func(*chronicle) {}, "", ""},
		{"all is well", func(p *chronicle) { p.add(0, of("a")).add(10, of("b")) }, "b", ""},
		{"by its own rollout", func(p *chronicle) { p.add(0, of("a")).add(10, of("b"), back) }, "a", "b*"},
		{"before it reached anybody", func(p *chronicle) { p.add(0, of("a")).add(10, of("b"), unexposed(maru.RolledBackPhase)) }, "a", ""},
		{"by a person", func(p *chronicle) { p.add(0, of("a")).add(10, of("b")).add(20, of("c")).add(30, rollbackTo(1)) }, "a", "b* c*"},
		{"by a rollback that has just begun", func(p *chronicle) {
			p.add(0, of("a")).add(10, of("b")).add(20, rollbackTo(1), unexposed(maru.Pending))
		}, "a", "b*"},
		{"by a rollback that did not come up", func(p *chronicle) { p.add(0, of("a")).add(10, of("b")).add(20, rollbackTo(1), back) }, "b", ""},
		{"brought again", func(p *chronicle) { p.add(0, of("a")).add(10, of("b")).add(20, rollbackTo(1)).add(30, of("b")) }, "b", ""},
		{"mended", func(p *chronicle) { p.add(0, of("a")).add(10, of("b"), back).add(20, of("c")) }, "c", "b"},
		{"mended in vain", func(p *chronicle) { p.add(0, of("a")).add(10, of("b"), back).add(20, of("c"), back) }, "a", "b* c*"},
		{"mended from a folder", func(p *chronicle) { p.add(0, of("a")).add(10, of("b"), back).add(20) }, "", "b"},
		{"back and forth", func(p *chronicle) {
			p.add(0, of("a")).add(10, of("b")).add(20, rollbackTo(1)).add(30, of("c")).add(40, rollbackTo(3))
		}, "a", "b c*"},
		{"restarted meanwhile", func(p *chronicle) {
			p.add(0, of("a")).add(10, of("b"), back).add(20, func(d *maru.Delivery) { d.Cause = plan.CauseRestart })
		}, "a", "b*"},
		{"the same files by another name", func(p *chronicle) {
			p.add(0, of("a")).add(10, of("b")).add(20, rollbackTo(1)).add(30, of("b"), func(d *maru.Delivery) { d.Origin.Commit = "amended" })
		}, "amended", ""},
		{"what went back to has the same files", func(p *chronicle) { p.add(0, of("a")).add(10, of("a")).add(20, rollbackTo(1)) }, "a", ""},
		{"removed", func(p *chronicle) {
			p.add(0, of("a")).add(10, func(d *maru.Delivery) { d.Cause = plan.CauseRemove })
		}, "", ""},
	} {
		p := newChronicle()
		c.past(p)
		running, taken := plan.TakenBack(p.all)
		commit := ""
		if running != nil && running.Origin != nil {
			commit = running.Origin.Commit
		}
		var names []string
		for _, one := range taken {
			name := one.Origin.Commit
			if one.Current {
				name += "*"
			}
			names = append(names, name)
		}
		if commit != c.running || strings.Join(names, " ") != c.taken {
			t.Errorf("%s: %q runs, and %q were taken back", c.name, commit, names)
		}
	}
}

func TestTakenBackText(t *testing.T) {
	got := plan.TakenBackText(maru.TakenBack{Rollout: 7, By: "ann", Reason: "web:\n  it " + strings.Repeat("x", 400)}, "production")
	if want := fmt.Sprintf("taken back in production by ann (rollout 7): web: it %s…", strings.Repeat("x", 292)); cmp.Diff(want, got) != "" {
		t.Error(cmp.Diff(want, got))
	}
}
