package runner

import (
	"archive/tar"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/report"
)

// Bounds of the reports that a job leaves in its workspace.
const (
	maxReports     = 500
	maxReportBytes = 32 << 20 // of all together
)

// takeReports tells what the JUnit files that the job left say. That they can't be read is no fault of
// the job.
func (j *job) takeReports(ctx context.Context) {
	workspace := j.c.Paths().Workspace
	names, err := machine.List(ctx, j.c, workspace)
	if err != nil {
		return
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return !report.IsJUnit(name) || strings.Contains("/"+name, "/node_modules/") || strings.ContainsAny(name, "\n\r")
	})
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	names = names[:min(len(names), maxReports)]
	var all *maru.TestReport
	err = j.eachFile(ctx, workspace, names, maxReportBytes, func(_ *tar.Header, r io.Reader) error {
		one, err := report.JUnit(r)
		if err != nil || one.Passed+one.Failed+one.Skipped == 0 {
			return nil // a file of another kind
		}
		if all == nil {
			all = one
		} else {
			report.Merge(all, one)
		}
		return nil
	})
	if err != nil || all == nil {
		return
	}
	j.maskTests(all)
	j.emit(maru.RunEvent{Kind: maru.RunTests, Tests: all})
}

func (j *job) maskTests(r *maru.TestReport) {
	for i := range r.Tests {
		t := &r.Tests[i]
		t.Message, t.Name, t.Suite = j.masks.Replace(t.Message), j.masks.Replace(t.Name), j.masks.Replace(t.Suite)
	}
}
