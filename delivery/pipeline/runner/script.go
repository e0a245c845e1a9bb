package runner

import (
	"context"
	"path"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/report"
)

// shells are how a script's file is run by each shell that has a name. {0} stands for the file.
var shells = map[string]struct {
	command, extension string
}{
	"bash":   {"bash --noprofile --norc -eo pipefail {0}", ".sh"},
	"sh":     {"sh -e {0}", ".sh"},
	"python": {"python {0}", ".py"},
	"pwsh":   {"pwsh -command . '{0}'", ".ps1"},
}

// script runs the step's script.
func (s *stepRun) script(ctx context.Context) error {
	text, err := s.def.Run.Eval(s.expressions())
	if err != nil {
		return err
	}
	shell, err := s.setting(s.def.Shell, func(i int) expr.Text { return s.defaults[i].Shell })
	if err != nil {
		return err
	}
	dir, err := s.setting(s.def.WorkingDirectory, func(i int) expr.Text { return s.defaults[i].WorkingDirectory })
	if err != nil {
		return err
	}
	args, extension, err := s.job.shell(shell)
	if err != nil {
		return err
	}
	if extension == ".ps1" {
		text = "$ErrorActionPreference = 'stop'\n" + text + "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n"
	}
	file := "scripts/" + maru.Itoa(s.job.nextFile()) + extension
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "{0}", path.Join(s.job.c.Paths().Temp, file))
	}
	tests := report.NewReader()
	s.seen = tests.Line
	err = s.exec(ctx, args, s.job.folder(dir), nil, map[string]string{file: text})
	if found := tests.Report(); found != nil {
		s.job.maskTests(found)
		s.job.emit(maru.RunEvent{Kind: maru.RunTests, Step: s.number, Tests: found})
	}
	return err
}

// setting gives the value of what the step says, or else the job, or else the workflow.
func (s *stepRun) setting(own expr.Text, of func(int) expr.Text) (string, error) {
	text, err := own.Eval(s.expressions())
	for i := 0; err == nil && text == "" && i < len(s.defaults); i++ {
		text, err = of(i).Eval(s.expressions())
	}
	return text, err
}

// folder is where a path of a workflow leads: relative to the workspace.
func (j *job) folder(dir string) string {
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return path.Join(j.c.Paths().Workspace, dir)
}

// shell gives the command for a shell, and the extension of its scripts.
func (j *job) shell(name string) (args []string, extension string, err error) {
	if strings.Contains(name, "{0}") {
		return strings.Fields(name), ".sh", nil
	}
	if name == "" {
		if j.c.Tools().Programs["bash"] {
			return []string{"bash", "-e", "{0}"}, ".sh", nil
		}
		return []string{"sh", "-e", "{0}"}, ".sh", nil
	}
	s, ok := shells[name]
	if !ok {
		return nil, "", maru.WithHint(maru.Errorf(maru.Invalid, "there is no shell %q", name), "write bash, sh, python, pwsh, or a command with {0} for the script's file")
	}
	args = strings.Fields(s.command)
	if name == "pwsh" {
		args = []string{"pwsh", "-command", ". '{0}'"}
	}
	if name == "python" && !j.c.Tools().Programs["python"] {
		args[0] = "python3"
	}
	if name != "sh" && !j.c.Tools().Programs[args[0]] {
		return nil, "", maru.WithHint(maru.Errorf(maru.Invalid, "the job's image has no %s", args[0]), "name an image that has it in the job's container, or write another shell")
	}
	return args, s.extension, nil
}
