package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

func load(t interface {
	Fatal(...any)
	Helper()
}, files map[string]string) (*workflow.Project, *workflow.Workflow) {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[".maru/workflows/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, issues := workflow.Load(tree, ".maru/workflows")
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	for _, w := range p.Workflows {
		if w.Path == ".maru/workflows/w.yml" {
			return p, w
		}
	}
	t.Fatal("no w.yml")
	return nil, nil
}

func contexts() Contexts {
	return Contexts{GitHub: expr.Map("ref", "refs/heads/main"), Vars: expr.NewObject(), Inputs: expr.NewObject(), Secrets: expr.Map("S", "s3cret")}
}

func job(id, lines string) string {
	return "  " + id + ":\n    runs-on: x\n    steps: [{run: x}]\n    " + strings.ReplaceAll(lines, "; ", "\n    ") + "\n"
}

// play runs to the end: outcome says how each job ends. The log has what happened, by job.
func play(r *Run, outcome func(*Job) Result) (log []string) {
	started := []*Job{}
	take := func() {
		for _, a := range r.Next() {
			switch a.Kind {
			case Start:
				started = append(started, a.Job)
				log = append(log, "start "+a.Job.ID)
			case End:
				log = append(log, fmt.Sprintf("%s %s", a.Result.Conclusion, a.Job.ID))
			case Cancel:
				log = append(log, "cancel "+a.Job.ID)
			}
		}
	}
	for take(); len(started) > 0; take() {
		j := started[0]
		started = started[1:]
		result := outcome(j)
		if j.state == cancelling {
			result.Conclusion = maru.Cancelled
		}
		log = append(log, fmt.Sprintf("%s %s", result.Conclusion, j.ID))
		r.Ended(j.ID, result)
	}
	return log
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, jobs string
		fails      string // IDs
		want       string
		conclusion maru.Conclusion
	}{
		{"one", job("a", ""), "", "start a, success a", maru.Success},
		{"needs", job("b", "needs: a") + job("a", ""), "", "start a, success a, start b, success b", maru.Success},
		{"failed need", job("a", "") + job("b", "needs: a") + job("c", "needs: b"), "a", "start a, failure a, skipped b, skipped c", maru.Failure},
		{"always", job("a", "") + job("b", "needs: a; if: always()"), "a", "start a, failure a, start b, success b", maru.Failure},
		{"failure()", job("a", "") + job("b", "needs: a; if: failure()"), "", "start a, success a, skipped b", maru.Success},
		{"failure() through others", job("a", "") + job("b", "needs: a") + job("c", "needs: b; if: failure()"), "a", "start a, failure a, skipped b, start c, success c", maru.Failure},
		{"skipped need", job("a", "if: false") + job("b", "needs: a"), "", "skipped a, skipped b", maru.Skipped},
		{"skipped, and on", job("a", "if: false") + job("b", "needs: a; if: \"!failure()\""), "", "skipped a, start b, success b", maru.Success},
		{"matrix", job("a", "strategy: {matrix: {v: [1, 2]}}"), "", "start a (1), start a (2), success a (1), success a (2)", maru.Success},
		{"fail fast", job("a", "strategy: {matrix: {v: [1, 2, 3]}, max-parallel: 2}"), "a (1)", "start a (1), start a (2), failure a (1), cancel a (2), cancelled a (3), cancelled a (2)", maru.Failure},
		{"not fail fast", job("a", "strategy: {matrix: {v: [1, 2]}, fail-fast: false}"), "a (1)", "start a (1), start a (2), failure a (1), success a (2)", maru.Failure},
		{"continue on error", job("a", "strategy: {matrix: {v: [1, 2]}}; continue-on-error: \"${{ matrix.v == 1 }}\"") + job("b", "needs: a"), "a (1)", "start a (1), start a (2), failure a (1), success a (2), start b, success b", maru.Success},
		{"max parallel", job("a", "strategy: {matrix: {v: [1, 2, 3]}, max-parallel: 1}"), "", "start a (1), success a (1), start a (2), success a (2), start a (3), success a (3)", maru.Success},
		{"outputs", job("a", "outputs: {list: x}") + job("b", "needs: a; strategy: {matrix: {v: \"${{ fromJSON(needs.a.outputs.list) }}\"}}"), "", "start a, success a, start b (x), start b (y), success b (x), success b (y)", maru.Success},
		{"if of outputs", job("a", "outputs: {list: x}") + job("b", "needs: a; if: contains(needs.a.outputs.list, 'z') || needs.a.result != 'success'"), "", "start a, success a, skipped b", maru.Success},
		{"bad matrix", job("a", "strategy: {matrix: {v: \"${{ fromJSON('1') }}\"}}"), "", "failure a", maru.Failure},
		{"call", job("a", "") + "  c:\n    needs: a\n    uses: ./.maru/workflows/called.yml\n    with: {n: 3, t: \"${{ needs.a.result }}\"}\n    secrets: {token: \"${{ secrets.S }}\"}\n" + job("d", "needs: c; if: needs.c.outputs.o == 'called-3-success-s3cret'"), "", "start a, success a, start c / x, success c / x, start d, success d", maru.Success},
		{"failed call", "  c:\n    uses: ./.maru/workflows/called.yml\n    with: {n: 3}\n    secrets: inherit\n" + job("d", "needs: c"), "c / x", "start c / x, failure c / x, skipped d", maru.Failure},
		{"no secret", "  c:\n    uses: ./.maru/workflows/called.yml\n    with: {n: 3}\n    secrets: {token: \"\"}\n", "", "failure c", maru.Failure},
	} {
		p, w := load(t, map[string]string{
			"w.yml":      "on: push\njobs:\n" + c.jobs,
			"called.yml": "on: {workflow_call: {inputs: {n: {type: number}, t: {type: string}}, secrets: {token: {required: true}}, outputs: {o: {value: \"${{ jobs.x.outputs.o }}\"}}}}\njobs:\n" + job("x", "outputs: {o: \"${{ inputs.n }}\"}"),
		})
		r := New(p, w, contexts(), nil)
		if strings.Contains(c.name, "failed call") {
			r.root.contexts.Secrets.Set("token", "x")
		}
		log := play(r, func(j *Job) Result {
			if slices.Contains(strings.Split(c.fails, "; "), j.ID) {
				return Result{Conclusion: maru.Failure}
			}
			outputs := map[string]string{"list": `["x","y"]`}
			if j.Workflow != w {
				outputs = map[string]string{"o": fmt.Sprintf("called-%s-%s-%s", expr.String(j.Contexts.Inputs.Get("n")), expr.String(j.Contexts.Inputs.Get("t")), expr.String(j.Contexts.Secrets.Get("token")))}
			}
			return Result{Conclusion: maru.Success, Outputs: outputs}
		})
		if got := strings.Join(log, ", "); got != c.want || r.Conclusion() != c.conclusion || !r.Done() {
			t.Errorf("%s: %s (%s), want\n%s (%s)", c.name, got, r.Conclusion(), c.want, c.conclusion)
		}
	}
}

func TestCancel(t *testing.T) {
	p, w := load(t, map[string]string{"w.yml": "on: push\njobs:\n" + job("a", "") + job("b", "needs: a") + job("c", "needs: a; if: always()") + job("d", "if: always()")})
	r := New(p, w, contexts(), nil)
	r.Next()
	r.Cancel()
	log := play(r, func(*Job) Result { return Result{Conclusion: maru.Success} })
	if got := strings.Join(log, ", "); got != "cancel a" {
		t.Errorf("%s", got)
	}
	r.Ended("a", Result{Conclusion: maru.Cancelled})
	r.Ended("d", Result{Conclusion: maru.Success})
	log = play(r, func(*Job) Result { return Result{Conclusion: maru.Success} })
	if got := strings.Join(log, ", "); got != "cancelled b, start c, success c" || r.Conclusion() != maru.Cancelled {
		t.Errorf("%s %s", got, r.Conclusion())
	}
}

// TestAgain runs what failed again, and what needs it, and nothing else.
func TestAgain(t *testing.T) {
	p, w := load(t, map[string]string{"w.yml": "on: push\njobs:\n" + job("a", "outputs: {o: 1}") + job("b", "needs: a") + job("c", "needs: b") + job("d", "strategy: {matrix: {v: [1, 2]}}") + job("e", "needs: a; if: needs.a.outputs.o == 'kept'")})
	ok := Result{Conclusion: maru.Success, Outputs: map[string]string{"o": "kept"}}
	r := New(p, w, contexts(), map[string]Result{"a": ok, "b": {Conclusion: maru.Failure}, "c": ok, "d (1)": ok, "d (2)": {Conclusion: maru.Failure}, "e": ok})
	log := play(r, func(*Job) Result { return ok })
	if got := strings.Join(log, ", "); got != "success a, start b, success d (1), start d (2), success e, success b, start c, success d (2), success c" {
		t.Errorf("%s", got)
	}
}

// TestEnds: whatever jobs need and however they end, a run ends, and each job once.
func TestEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		n := rapid.IntRange(1, 6).Draw(t, "jobs")
		for i := range n {
			lines := []string{"if: " + rapid.SampledFrom([]string{"always()", "failure()", "success()", "true", "cancelled()", "\"!cancelled()\"", "github.x"}).Draw(t, "if")}
			var needs []string
			for k := range i {
				if rapid.Bool().Draw(t, "need") {
					needs = append(needs, fmt.Sprint("j", k))
				}
			}
			if needs != nil {
				lines = append(lines, "needs: ["+strings.Join(needs, ", ")+"]")
			}
			if rapid.Bool().Draw(t, "matrix") {
				lines = append(lines, fmt.Sprintf("strategy: {matrix: {v: [1, 2, 3]}, max-parallel: %d, fail-fast: %v}", rapid.IntRange(1, 3).Draw(t, "parallel"), rapid.Bool().Draw(t, "fail-fast")))
			}
			text.WriteString(job(fmt.Sprint("j", i), strings.Join(lines, "; ")))
		}
		p, w := load(t, map[string]string{"w.yml": "on: push\njobs:\n" + text.String()})
		r := New(p, w, contexts(), nil)
		ends, started := map[string]int{}, []*Job{}
		for {
			for _, a := range r.Next() {
				switch a.Kind {
				case Start:
					started = append(started, a.Job)
				case End:
					ends[a.Job.ID]++
				}
			}
			if len(started) == 0 {
				break
			}
			if rapid.IntRange(0, 9).Draw(t, "cancel") == 0 {
				r.Cancel()
			}
			i := rapid.IntRange(0, len(started)-1).Draw(t, "which")
			j := started[i]
			started = slices.Delete(started, i, i+1)
			ends[j.ID]++
			r.Ended(j.ID, Result{Conclusion: rapid.SampledFrom([]maru.Conclusion{maru.Success, maru.Failure}).Draw(t, "end")})
		}
		if !r.Done() || r.Next() != nil {
			t.Fatal("the run does not end")
		}
		for id, n := range ends {
			if n != 1 {
				t.Fatalf("%s ended %d times", id, n)
			}
		}
		if len(ends) != len(r.ids) {
			t.Fatalf("%d of %d jobs ended", len(ends), len(r.ids))
		}
	})
}
