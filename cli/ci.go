package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/internal/source"
)

func (s *shell) ciCommand() *cobra.Command {
	c := &cobra.Command{Use: "ci", Short: "Run workflows", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(s.ciRunCommand())
	return c
}

func (s *shell) ciRunCommand() *cobra.Command {
	request := &maruv1.PipelineServiceRunRequest{}
	var dir string
	var inputs []string
	c := &cobra.Command{Use: "run [WORKFLOW…]", Short: "Run the workflows of this folder, as it is now, on the server",
		Long: `Run sends this folder's files, also those that are not committed, and runs its workflows on the server: those
of .maru/workflows that a push would start, or the ones that are named, by their file or their name. With --github
they are those of .github/workflows. Where there is none, a default one builds and tests the languages that it
finds. What git ignores is not sent. Jobs get no secrets.

It exits with 1 when a run fails. Interrupting it cancels the runs.`,
		Example: `  maru ci run
  maru ci run --github test.yml
  maru ci run --event workflow_dispatch --input level=full release
  maru ci run -o json | jq -r 'select(.event.kind == "tests") | .event.tests'`,
		RunE: func(c *cobra.Command, args []string) error {
			request.Workflows = args
			request.Inputs = map[string]string{}
			for _, in := range inputs {
				name, value, ok := strings.Cut(in, "=")
				if !ok {
					return misuse{maru.Errorf(maru.Invalid, "--input %q is not NAME=VALUE", in)}
				}
				request.Inputs[name] = value
			}
			return s.runWorkflows(c.Context(), dir, request)
		}}
	c.Flags().StringVarP(&dir, "dir", "C", ".", "the source tree")
	c.Flags().BoolVar(&request.Github, "github", false, "run the workflows of .github/workflows")
	c.Flags().StringVar(&request.Event, "event", "push", "push, pull_request, workflow_dispatch or schedule")
	c.Flags().StringArrayVar(&inputs, "input", nil, "NAME=VALUE for workflow_dispatch; may be repeated")
	c.Flags().StringVar(&request.Base, "base", "", "of a pull request: the branch that it is for")
	_ = c.RegisterFlagCompletionFunc("event", cobra.FixedCompletions([]string{"push", "pull_request", "workflow_dispatch", "schedule"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.MarkFlagDirname("dir")
	return c
}

func (s *shell) runWorkflows(ctx context.Context, dir string, request *maruv1.PipelineServiceRunRequest) error {
	connected, err := s.connect()
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	tree, err := scanTree(ctx, dir)
	if err != nil {
		return err
	}
	bar := s.transfer("sending the source tree")
	ids, err := connected.SendSources(ctx, []client.Folder{tree}, bar.set)
	bar.done()
	if err != nil {
		return err
	}
	request.Scope, request.Source = s.place(), ids[0]
	describeCommit(ctx, dir, request)
	stream, err := connected.Pipelines.Run(ctx, request)
	if err != nil {
		return err
	}
	defer stream.Close()
	view := &runView{shell: s, style: styles(s.Stdout), failed: []string{}}
	for stream.Receive() {
		m := stream.Msg()
		if s.output == "json" {
			if err := s.printLine(m); err != nil {
				return err
			}
		}
		view.take(m.Event)
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if len(view.failed) > 0 {
		return maru.Errorf(maru.Conflict, "%s", strings.Join(view.failed, ", "))
	}
	return nil
}

// scanTree names what is in a source tree: what git knows or would add, or all where there is no git.
func scanTree(ctx context.Context, dir string) (client.Folder, error) {
	options := source.ScanOptions{Only: func(path string) bool { return path != ".git" }}
	if cache, err := os.UserCacheDir(); err == nil {
		options.CacheDir = filepath.Join(cache, "maru")
	}
	if out, err := git(ctx, dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard"); err == nil {
		known := map[string]bool{}
		for name := range strings.SplitSeq(string(out), "\x00") {
			for ; name != "" && name != "." && !known[name]; name = filepath.ToSlash(filepath.Dir(name)) {
				known[name] = true
			}
		}
		options.Only = func(path string) bool { return known[path] }
	}
	manifest, err := source.Scan(ctx, dir, options)
	return client.Folder{Path: dir, Manifest: manifest}, err
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	return cmd.Output()
}

// describeCommit tells what the tree was changed from, as far as git knows.
func describeCommit(ctx context.Context, dir string, request *maruv1.PipelineServiceRunRequest) {
	line := func(args ...string) string {
		out, err := git(ctx, dir, args...)
		if err != nil {
			return ""
		}
		return string(bytes.TrimSpace(out))
	}
	request.Sha, request.Message = line("rev-parse", "HEAD"), line("log", "-1", "--format=%B")
	request.Ref = line("symbolic-ref", "-q", "HEAD")
	if request.Ref == "" {
		request.Ref = "refs/heads/main"
	}
	_, request.DefaultBranch, _ = strings.Cut(line("symbolic-ref", "-q", "--short", "refs/remotes/origin/HEAD"), "/")
	if request.DefaultBranch == "" {
		request.DefaultBranch = "main"
	}
}

// runView shows runs as they go.
type runView struct {
	*shell
	style  style
	failed []string
}

func (v *runView) take(e *maruv1.RunEvent) {
	if e.Kind == string(maru.RunEnded) && e.Conclusion != string(maru.Success) && e.Conclusion != string(maru.Skipped) {
		v.failed = append(v.failed, fmt.Sprintf("workflow %s: %s", e.Name, e.Conclusion))
	}
	if v.output == "json" {
		return
	}
	switch maru.RunEventKind(e.Kind) {
	case maru.RunWarning:
		fmt.Fprintf(v.Stderr, "%s %s\n", styles(v.Stderr).warn("warning:"), e.Text)
	case maru.JobStarted:
		v.line(e, v.style.bold("job started"))
	case maru.JobEnded:
		text := e.Text
		if text != "" {
			text = ": " + text
		}
		v.line(e, v.style.bold("job ended: ")+v.conclusion(e.Conclusion)+text)
	case maru.StepStarted:
		v.line(e, v.style.bold("▸ "+e.Name))
	case maru.StepEnded:
		if e.Conclusion != string(maru.Success) {
			v.line(e, v.conclusion(e.Conclusion)+" "+e.Name)
		}
	case maru.RunLine:
		if !v.quiet {
			v.line(e, "  "+e.Text)
		}
	case maru.RunGroup:
		v.line(e, "  "+v.style.dim("▾ "+e.Text))
	case maru.RunAnnotation:
		v.line(e, "  "+v.annotation(e))
	case maru.RunArtifact:
		v.line(e, fmt.Sprintf("  artifact %s, %d bytes", e.Name, e.Bytes))
	case maru.RunTests:
		v.tests(e)
	case maru.RunEnded:
		fmt.Fprintf(v.Stdout, "workflow %s: %s\n", e.Name, v.conclusion(e.Conclusion))
	}
}

// line begins with the job, so that those which run at once can be told apart.
func (v *runView) line(e *maruv1.RunEvent, text string) {
	fmt.Fprintf(v.Stdout, "%s %s\n", v.style.dim("["+e.Job+"]"), text)
}

func (v *runView) annotation(e *maruv1.RunEvent) string {
	text := e.Level + ": "
	switch e.Level {
	case "error":
		text = v.style.bad(text)
	case "warning":
		text = v.style.warn(text)
	}
	if e.File != "" {
		text += e.File
		if e.Line > 0 {
			text += fmt.Sprintf(":%d", e.Line)
		}
		text += ": "
	}
	if e.Name != "" {
		text += e.Name + ": "
	}
	return text + e.Text
}

func (v *runView) tests(e *maruv1.RunEvent) {
	t := e.Tests
	v.line(e, fmt.Sprintf("  tests: %d passed, %d failed, %d skipped", t.Passed, t.Failed, t.Skipped))
	for _, r := range t.Tests {
		name := strings.Join(slices.DeleteFunc([]string{r.Suite, r.Name}, func(s string) bool { return s == "" }), " ")
		where := ""
		if r.File != "" {
			where = fmt.Sprintf(" at %s:%d", r.File, r.Line)
		}
		v.line(e, "  "+v.style.bad("failed:")+" "+name+where)
	}
}

func (v *runView) conclusion(text string) string {
	switch maru.Conclusion(text) {
	case maru.Success:
		return v.style.good(text)
	case maru.Failure:
		return v.style.bad(text)
	}
	return v.style.warn(text)
}
