package pipeline

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/detect"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// Selection is which workflows of a source tree are to run.
type Selection struct {
	Project   *workflow.Project
	Workflows []*workflow.Workflow
	Warnings  []workflow.Issue
	Default   string // the text of the default workflow, where the tree has none

	// Found is what the default workflow is of, and Untested what it leaves out, such as "Go in api".
	Found    []string
	Untested []string
}

// Choice says which workflows are wanted.
type Choice struct {
	GitHub bool // those of .github/workflows
	Event  workflow.Event
	Names  []string // by file or name, whatever they are for; nil: those that the event starts
	Tested bool     // the default one is of projects with tests alone, and there may be none
}

// Select reads the workflows of a source tree and gives those that are wanted. A tree without any gets a
// default one. An error is of what is in the files, at its places, or NotFound for a name.
func Select(tree fs.FS, choice Choice) (Selection, error) {
	folder, names := workflow.Folder(choice.GitHub), choice.Names
	project, issues := workflow.Load(tree, folder)
	if err := issues.Err(); err != nil {
		return Selection{}, err
	}
	s := Selection{Project: project, Warnings: issues.Warnings()}
	if len(project.Workflows) == 0 {
		projects, err := detect.Search(tree)
		if err != nil {
			return Selection{}, err
		}
		if choice.Tested {
			projects, s.Untested = projects.Tested()
		}
		s.Found = projects.Names()
		w, text, err := projects.Workflow()
		if err != nil {
			return Selection{}, err
		}
		if w == nil && choice.Tested {
			return s, nil
		}
		if w == nil {
			return Selection{}, maru.WithHint(maru.Errorf(maru.NotFound, "there is no workflow in %s, and nothing that is known how to test", folder),
				"write one: docs/workflows.md has an example")
		}
		project.Add(w)
		s.Default = text
	}
	if len(names) == 0 {
		for _, w := range project.Workflows {
			if w.Triggers(choice.Event) {
				s.Workflows = append(s.Workflows, w)
			}
		}
		return s, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(project.Workflows, func(w *workflow.Workflow) bool { return called(w, name) })
		if i < 0 {
			var known []string
			for _, w := range project.Workflows {
				known = append(known, path.Base(w.Path))
			}
			return Selection{}, maru.WithHint(maru.Errorf(maru.NotFound, "there is no workflow %s", name), "there are "+strings.Join(known, ", "))
		}
		s.Workflows = append(s.Workflows, project.Workflows[i])
	}
	return s, nil
}

// called tells whether a name means a workflow: its name, its path, or its file with or without
// extension.
func called(w *workflow.Workflow, name string) bool {
	base := path.Base(w.Path)
	return slices.Contains([]string{w.Name, w.Path, base, strings.TrimSuffix(base, path.Ext(base))}, name)
}
