package workflow

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

func topRows() []row {
	const noPermissions = "There is no token whose permissions this could limit: jobs reach the source tree, caches and artifacts only."
	return []row{
		done("name", "The workflow's name; without it the file's path."),
		done("run-name", "The run's name; without it that of the commit."),
		done("on", "What starts the workflow: one event, a list, or a mapping."),
		left("permissions", noPermissions, "leave it; it has no effect here"),
		done("env", "Environment variables of all steps. Those of the job come over them, those of the step over these."),
		done("env.*", "One variable."),
		done("defaults", "How steps with run are run."),
		done("defaults.run", "Likewise."),
		done("defaults.run.shell", "Their shell."),
		done("defaults.run.working-directory", "Their folder, within the workspace."),
		done("concurrency", "Of the runs with the same group one is at work and one waits; one that comes after that takes the place of the one that waits."),
		done("concurrency.group", "The group, whatever the case of its letters."),
		done("concurrency.cancel-in-progress", "The one at work is cancelled, too."),
		done("jobs", "The jobs, by ID."),
	}
}

func eventRows() []row {
	rows := []row{
		done("on.push", "A push of a branch or a tag."),
		done("on.push.branches", "Only branches with these patterns. With this alone tags start nothing."),
		done("on.push.branches-ignore", "Not these branches."),
		done("on.push.tags", "Only tags with these patterns. With this alone branches start nothing."),
		done("on.push.tags-ignore", "Not these tags."),
		done("on.push.paths", "Only if a file with one of these patterns changed."),
		done("on.push.paths-ignore", "Not if all files that changed have one of these patterns."),
		done("on.pull_request", "A pull request. It runs without secrets when its branch is not trusted."),
		done("on.pull_request.types", "Only these activities; without it opened, synchronize and reopened."),
		done("on.pull_request.branches", "Only those for branches with these patterns."),
		done("on.pull_request.branches-ignore", "Not those for these branches."),
		done("on.pull_request.paths", "Only if a file with one of these patterns changed."),
		done("on.pull_request.paths-ignore", "Not if all files that changed have one of these patterns."),
		refuse("on.pull_request_target", "A pull request's code would run with the secrets of the branch that it is for.",
			"write pull_request, which runs without secrets"),
		done("on.workflow_dispatch", "Started by hand."),
		done("on.workflow_dispatch.inputs", "What the one who starts it is asked for."),
		done("on.workflow_dispatch.inputs.*", "One input."),
		done("on.workflow_dispatch.inputs.*.description", "What it is for."),
		done("on.workflow_dispatch.inputs.*.required", "The run does not start without it."),
		done("on.workflow_dispatch.inputs.*.default", "Its value when none is given."),
		done("on.workflow_dispatch.inputs.*.type", "string, number, boolean, choice or environment."),
		done("on.workflow_dispatch.inputs.*.options", "What a choice can be."),
		done("on.schedule", "At certain times, on the default branch."),
		done("on.schedule.cron", "The times: minute, hour, day of the month, month, day of the week."),
		done("on.schedule.timezone", "Their time zone; without it UTC."),
		done("on.workflow_call", "Jobs of other workflows use this one."),
		done("on.workflow_call.inputs", "What it is given."),
		done("on.workflow_call.inputs.*", "One input."),
		done("on.workflow_call.inputs.*.description", "What it is for."),
		done("on.workflow_call.inputs.*.required", "It must be given."),
		done("on.workflow_call.inputs.*.default", "Its value when none is given."),
		done("on.workflow_call.inputs.*.type", "string, number or boolean."),
		done("on.workflow_call.secrets", "The secrets that it is given."),
		done("on.workflow_call.secrets.*", "One secret."),
		done("on.workflow_call.secrets.*.description", "What it is for."),
		done("on.workflow_call.secrets.*.required", "It must be given."),
		done("on.workflow_call.outputs", "What it gives back."),
		done("on.workflow_call.outputs.*", "One output."),
		done("on.workflow_call.outputs.*.description", "What it is."),
		done("on.workflow_call.outputs.*.value", "Its value, of its jobs' outputs."),
		left("on.*", "This event does not happen here: it never starts the workflow.", "write push, pull_request, workflow_dispatch or schedule"),
	}
	for i := range rows {
		for _, event := range []string{Push, PullRequest} {
			if rows[i].key == "on."+event {
				rows[i] = rows[i].butRefused("workflows", func(n *yaml.Node) bool { return field(n, "workflows") != nil },
					"This is a filter of workflow_run.", "leave workflows out")
			}
		}
	}
	return rows
}

func jobRows() []row {
	return []row{
		done("jobs.*", "One job, in a container of its own, which goes with it."),
		done("jobs.*.name", "Its name; without it the ID, with the values of the matrix."),
		done("jobs.*.needs", "Jobs that must be done before."),
		done("jobs.*.if", "Whether it runs. Without a status function it also wants all that it needs to have succeeded."),
		done("jobs.*.runs-on", "A label, which the server has an image for, or several.").
			butRefused("macos and windows", isOtherSystem, "Maru runs Linux only.", "write ubuntu-latest, or a label that the server has an image for"),
		done("jobs.*.runs-on.labels", "Likewise.").
			butRefused("macos and windows", isOtherSystem, "Maru runs Linux only.", "write ubuntu-latest, or a label that the server has an image for"),
		refuse("jobs.*.runs-on.group", "There are no groups of runners: jobs run on this machine.", "write labels alone"),
		left("jobs.*.permissions", "There is no token whose permissions this could limit.", "leave it; it has no effect here"),
		left("jobs.*.environment", "Jobs have the repository's secrets, and what Maru deploys is approved when it is deployed.",
			"leave it; a job that must wait for a person is a deploy, see x-maru.environments"),
		done("jobs.*.concurrency", "Of the jobs with the same group, in all runs, one is at work and one waits."),
		done("jobs.*.concurrency.group", "The group."),
		done("jobs.*.concurrency.cancel-in-progress", "The one at work is cancelled, too."),
		done("jobs.*.outputs", "What it gives to jobs that need it."),
		done("jobs.*.outputs.*", "One output, up to 1 MiB."),
		done("jobs.*.env", "Environment variables of its steps."),
		done("jobs.*.env.*", "One variable."),
		done("jobs.*.defaults", "How its steps with run are run."),
		done("jobs.*.defaults.run", "Likewise."),
		done("jobs.*.defaults.run.shell", "Their shell."),
		done("jobs.*.defaults.run.working-directory", "Their folder, within the workspace."),
		done("jobs.*.steps", "Its steps, one after the other."),
		done("jobs.*.timeout-minutes", "It is cancelled after this time; without it after 360 minutes."),
		done("jobs.*.strategy", "Several jobs of one."),
		done("jobs.*.strategy.matrix", "One for each combination, 256 at most; an expression can give all of it, or one list."),
		done("jobs.*.strategy.matrix.*", "The values of one dimension."),
		done("jobs.*.strategy.matrix.include", "More values for combinations, or more combinations."),
		done("jobs.*.strategy.matrix.exclude", "Combinations that are left out."),
		done("jobs.*.strategy.fail-fast", "When one fails the others are cancelled; true without it."),
		done("jobs.*.strategy.max-parallel", "How many run at once."),
		done("jobs.*.continue-on-error", "The run does not fail with it."),
		done("jobs.*.uses", "The jobs of another workflow of the source tree: ./.maru/workflows/FILE.yml.").
			butRefused("other repositories", func(n *yaml.Node) bool { return !strings.HasPrefix(words(n), "./") },
				"Maru fetches no workflows of other repositories.", "copy the workflow beside this one and write ./.maru/workflows/FILE.yml"),
		done("jobs.*.with", "Its inputs."),
		done("jobs.*.with.*", "One input."),
		done("jobs.*.secrets", "Its secrets, or inherit for all."),
		done("jobs.*.secrets.*", "One secret."),
		refuse("jobs.*.snapshot", "Jobs leave no images behind.", "build the image from a Dockerfile, and name it in container"),
	}
}

func isOtherSystem(n *yaml.Node) bool {
	for _, label := range allWords(n) {
		l := strings.ToLower(label)
		if strings.HasPrefix(l, "macos") || strings.HasPrefix(l, "windows") {
			return true
		}
	}
	return false
}

func containerRows() []row {
	rows := []row{
		done("jobs.*.services", "Containers beside the job, such as databases, reached by their names. Each is waited for until it is healthy."),
		done("jobs.*.services.*", "One service."),
	}
	for _, c := range []struct{ key, what string }{{"jobs.*.container", "job's container"}, {"jobs.*.services.*", "service"}} {
		if c.key == "jobs.*.container" {
			rows = append(rows, done(c.key, "The image to run the job in, instead of that of runs-on."))
		}
		rows = append(rows,
			done(c.key+".image", "The image."),
			done(c.key+".credentials", "For the registry."),
			done(c.key+".credentials.username", "The user's name."),
			done(c.key+".credentials.password", "The password."),
			done(c.key+".env", "Environment variables of the "+c.what+"."),
			done(c.key+".env.*", "One variable."),
			refuse(c.key+".volumes", "Folders of the host are not mounted, and volumes don't outlive the job.", "use actions/cache for what is to be kept, and --tmpfs PATH in options for memory"),
			done(c.key+".options", "Of docker create: "+optionNames()+"."),
		)
		if c.key == "jobs.*.container" {
			rows = append(rows, left(c.key+".ports", "Nothing outside of the job reaches it.", "leave ports out"))
		} else {
			rows = append(rows, done(c.key+".ports", "Ports of the service. The job reaches PORT and HOST:PORT on localhost as well, as on a machine of its own."))
		}
	}
	return rows
}

func stepRows() []row {
	const s = "jobs.*.steps."
	return []row{
		done(s+"id", "Its name in the context steps."),
		done(s+"if", "Whether it runs. Without a status function it also wants all steps before to have succeeded."),
		done(s+"name", "Its name; without it what it runs."),
		done(s+"env", "Its environment variables."),
		done(s+"env.*", "One variable."),
		done(s+"continue-on-error", "The job goes on, and does not fail with it."),
		done(s+"timeout-minutes", "It fails after this time."),
		done(s+"run", "A script."),
		done(s+"shell", "bash, sh, python, pwsh where it is in the image, or a command with {0} for the script's file. Without it bash -e, or sh where there is no bash.").
			butRefused("cmd and powershell", func(n *yaml.Node) bool { return words(n) == "cmd" || words(n) == "powershell" },
				"This shell is there on Windows only.", "write bash, sh, python or pwsh"),
		done(s+"working-directory", "The folder, within the workspace."),
		done(s+"uses", "An action of the source tree (./FOLDER: composite, JavaScript where node is in the image, or an image or a Dockerfile), an image (docker://IMAGE), or one that is built in.").
			butRefused("other actions", isForeignAction, "Maru fetches no actions: it has some built in, and runs those of the source tree.",
				"write what it does as a step with run, or copy it to ./.maru/actions/NAME and write uses: ./.maru/actions/NAME; built in are "+strings.Join(BuiltinNames(), ", ")),
		done(s+"with", "Its inputs."),
		done(s+"with.*", "One input."),
	}
}

func isForeignAction(n *yaml.Node) bool {
	_, ok := FindBuiltin(words(n))
	return !ok && !strings.HasPrefix(words(n), "./") && !strings.HasPrefix(words(n), ImagePrefix)
}
