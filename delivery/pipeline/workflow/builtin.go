package workflow

import (
	"runtime"
	"slices"
	"strings"
)

// Builtin is an action that Maru has built in, for any version of it. It needs no network.
type Builtin struct {
	Name    string
	Means   string
	Inputs  []BuiltinInput
	Outputs []string
}

// BuiltinInput is an input of a built-in action.
type BuiltinInput struct {
	Name     string
	Default  string
	Required bool
	Means    string
	Only     []string // values that are done; nil: all
	Instead  string   // what to write where a value is not done
	Idle     bool     // has no effect here, and need not
}

// Input finds an input, whatever its case.
func (b *Builtin) Input(name string) *BuiltinInput {
	i := slices.IndexFunc(b.Inputs, func(in BuiltinInput) bool { return sameName(in.Name, name) })
	if i < 0 {
		return nil
	}
	return &b.Inputs[i]
}

// Check tells why a value is not done, "" if it is.
func (in *BuiltinInput) Check(value string) string {
	if in.Only == nil || slices.ContainsFunc(in.Only, func(o string) bool { return sameName(o, strings.TrimSpace(value)) }) {
		return ""
	}
	return "the input " + in.Name + " can't be " + value + " here. " + in.Means
}

// FindBuiltin finds the action that a step uses, whatever its version.
func FindBuiltin(uses string) (*Builtin, bool) {
	name, _, versioned := strings.Cut(uses, "@")
	if !versioned {
		return nil, false
	}
	i := slices.IndexFunc(builtins, func(b Builtin) bool { return sameName(b.Name, name) })
	if i < 0 {
		return nil, false
	}
	return &builtins[i], true
}

// BuiltinNames are the names of all built-in actions.
func BuiltinNames() []string {
	names := make([]string, len(builtins))
	for i, b := range builtins {
		names[i] = b.Name
	}
	return names
}

func input(name, def, means string) BuiltinInput {
	return BuiltinInput{Name: name, Default: def, Means: means}
}

func idle(means string, names ...string) []BuiltinInput {
	var all []BuiltinInput
	for _, name := range names {
		all = append(all, BuiltinInput{Name: name, Means: means, Idle: true})
	}
	return all
}

func only(name, def, means, instead string, values ...string) BuiltinInput {
	return BuiltinInput{Name: name, Default: def, Means: means, Instead: instead, Only: append(values, "")}
}

var builtins = []Builtin{
	{
		Name: "actions/checkout", Means: "Puts the source tree into the workspace.", Outputs: []string{"ref", "commit"},
		Inputs: slices.Concat([]BuiltinInput{
			{Name: "repository", Means: "Only this repository is at hand.", Instead: "leave it out; take what other repositories give as packages"},
			{Name: "ref", Means: "Only the run's own commit is at hand.", Instead: "leave it out, and start a run for the other branch"},
			input("path", "", "The folder of the workspace to put it into."),
			only("submodules", "false", "Submodules are not fetched.", "commit what is needed, or take it as a package", "false"),
			only("lfs", "false", "Files of Git LFS are not fetched.", "leave lfs out", "false"),
			only("sparse-checkout", "", "The whole tree is put there.", "leave sparse-checkout out"),
		}, idle("There is no remote whose access this would be.", "token", "ssh-key", "ssh-known-hosts", "ssh-strict", "ssh-user", "persist-credentials", "github-server-url"),
			idle("What the run has of the history is there.", "fetch-depth", "fetch-tags", "clean", "show-progress", "filter", "set-safe-directory", "sparse-checkout-cone-mode")),
	},
	{
		Name: "actions/cache", Means: "Puts back what an earlier run kept under the key, and keeps it at the end of the job.", Outputs: []string{"cache-hit"},
		Inputs: cacheInputs("path", "key"),
	},
	{
		Name: "actions/cache/restore", Means: "Puts back what an earlier run kept under the key.", Outputs: []string{"cache-hit", "cache-primary-key", "cache-matched-key"},
		Inputs: cacheInputs("path", "key"),
	},
	{
		Name: "actions/cache/save", Means: "Keeps paths under the key, at once.", Inputs: cacheInputs("path", "key"),
	},
	{
		Name: "actions/upload-artifact", Means: "Keeps files with the run.", Outputs: []string{"artifact-id", "artifact-digest", "artifact-url"},
		Inputs: slices.Concat([]BuiltinInput{
			input("name", "artifact", "The artifact's name."),
			{Name: "path", Required: true, Means: "Files, folders and patterns, one a line; ! leaves out."},
			input("if-no-files-found", "warn", "warn, error or ignore."),
			input("overwrite", "false", "An artifact of the name is replaced; without it that is an error."),
			input("include-hidden-files", "false", "Files whose names begin with a dot are taken, too."),
		}, idle("Artifacts are kept as long as their run is, compressed as Maru does.", "retention-days", "compression-level")),
	},
	{
		Name: "actions/download-artifact", Means: "Gets artifacts of this run.", Outputs: []string{"download-path"},
		Inputs: []BuiltinInput{
			input("name", "", "The artifact's name; without it all, each in a folder of its name."),
			input("pattern", "", "Those whose names have this pattern."),
			input("path", "", "The folder to put them into; without it the workspace."),
			input("merge-multiple", "false", "All into one folder."),
			only("github-token", "", "Only this run's artifacts are at hand.", "leave it out"),
			only("repository", "", "Only this run's artifacts are at hand.", "leave it out"),
			only("run-id", "", "Only this run's artifacts are at hand.", "leave it out"),
			only("artifact-ids", "", "Artifacts are found by their names.", "write name or pattern"),
		},
	},
	{
		Name: "docker/build-push-action", Means: "Builds an image of a folder of the workspace, by Maru's builder: no Docker is needed in the job. It is here, as jobs.maru.internal/PROJECT/APP by its digest.",
		Outputs: []string{"digest", "imageid", "metadata"},
		Inputs: slices.Concat([]BuiltinInput{
			input("context", ".", "The folder of the workspace."),
			input("file", "Dockerfile", "The Dockerfile, within the workspace, and in the context."),
			input("target", "", "The stage to build."),
			input("build-args", "", "NAME=VALUE, one a line."),
			input("labels", "", "NAME=VALUE, one a line."),
			input("secrets", "", "ID=VALUE, one a line."),
			input("no-cache", "false", "Every step is done again."),
			input("pull", "false", "Base images are asked for anew."),
			only("push", "false", "Jobs push to no registry.", "hand the image over: echo \"web=jobs.maru.internal/${{ github.repository }}@${{ steps.ID.outputs.digest }}\" >> \"$MARU_IMAGES\"", "false"),
			{Name: "outputs", Means: "The image goes nowhere but to the image store.", Instead: "leave outputs out", Only: []string{""}},
			{Name: "platforms", Means: "Images are for this machine.", Instead: "leave platforms out", Only: []string{"", "linux/" + runtime.GOARCH}},
			{Name: "secret-files", Means: "Secrets are values.", Instead: "write secrets", Only: []string{""}},
			{Name: "ssh", Means: "There is no agent.", Instead: "leave ssh out", Only: []string{""}},
			{Name: "build-contexts", Means: "There is one context.", Instead: "put all into one folder", Only: []string{""}},
		}, idle("Images of jobs are found by their digests.", "tags", "load", "provenance", "sbom", "attests", "annotations", "call"),
			idle("The builder has its own cache, and its own budget.", "cache-from", "cache-to", "no-cache-filters", "builder", "ulimit", "shm-size", "cgroup-parent", "allow", "network", "add-hosts", "github-token")),
	},
	{Name: "docker/setup-buildx-action", Means: "Does nothing: images are built by Maru's builder.",
		Inputs: idle("It has no effect here.", "version", "name", "driver", "driver-opts", "buildkitd-flags", "buildkitd-config", "buildkitd-config-inline", "use", "install", "endpoint", "platforms", "append", "cleanup", "keep-state", "cache-binary")},
	{Name: "docker/setup-qemu-action", Means: "Does nothing: images are for this machine.",
		Inputs: idle("It has no effect here.", "image", "platforms", "cache-image", "reset")},
	setup("go", []string{"go-version", "cache-hit"}, "go-version", "go-version-file", "check-latest", "architecture", "cache", "cache-dependency-path"),
	setup("node", []string{"node-version", "cache-hit"}, "node-version", "node-version-file", "check-latest", "architecture", "cache", "cache-dependency-path",
		"registry-url", "scope", "always-auth", "package-manager-cache"),
	setup("python", []string{"python-version", "python-path", "cache-hit"}, "python-version", "python-version-file", "check-latest", "architecture", "cache",
		"cache-dependency-path", "update-environment", "allow-prereleases", "freethreaded", "pip-version"),
	setup("java", []string{"version", "path", "distribution", "cache-hit"}, "java-version", "java-version-file", "distribution", "check-latest", "architecture",
		"java-package", "cache", "cache-dependency-path", "overwrite-settings", "server-id"),
}

func cacheInputs(required ...string) []BuiltinInput {
	all := slices.Concat([]BuiltinInput{
		input("path", "", "Files and folders, one a line, also in the home folder (~)."),
		input("key", "", "The key. What is kept under it does not change any more."),
		input("restore-keys", "", "Beginnings of keys to take the newest of where the key itself is not there, one a line."),
		input("fail-on-cache-miss", "false", "The step fails when nothing is found."),
		input("lookup-only", "false", "Only tells whether there is something."),
		input("save-always", "false", "It is kept also when the job failed."),
	}, idle("It has no effect here.", "upload-chunk-size", "enableCrossOsArchive"))
	for i := range all {
		all[i].Required = slices.Contains(required, all[i].Name)
	}
	return all
}

// setup is an action that checks for a toolchain. The first input is the version, the second a file
// that says it.
func setup(language string, outputs []string, inputs ...string) Builtin {
	b := Builtin{
		Name: "actions/setup-" + language, Outputs: outputs,
		Means: "Checks that the image has the toolchain in the version that is asked for. It installs nothing: the image is what says which is there.",
	}
	for i, name := range inputs {
		switch {
		case i == 0:
			b.Inputs = append(b.Inputs, input(name, "", "The version: 1.26, 1.26.x, >=1.25, ^20, stable, lts/* and the like."))
		case i == 1:
			b.Inputs = append(b.Inputs, input(name, "", "A file of the workspace that says the version."))
		case name == "distribution":
			b.Inputs = append(b.Inputs, input(name, "", "Whose Java it is: that of the image, whatever it is."))
		default:
			b.Inputs = append(b.Inputs, idle("It has no effect here: nothing is installed, and caches are those of actions/cache.", name)...)
		}
	}
	return b
}
