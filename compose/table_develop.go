package compose

// developRows are the keys of develop, which maru dev follows and deploys have no use for.
func developRows() []row {
	const w, e = "services.*.develop.watch", "services.*.develop.watch.exec"
	return []row{
		honor("services.*.develop", "What maru dev does when files change; a deploy has no use for it."),
		honor(w, "The rules, each for a path. Without any, a service with a build is built anew when its context changes."),
		honor(w+".path", "The folder or file to watch, relative to the compose file's folder."),
		honor(w+".action", "rebuild, sync, restart, sync+restart or sync+exec. A restart is that of the process: the instance stays, and what was synced to it."),
		honor(w+".target", "Where in the instances the path is; what is synced is written as the instance's user."),
		honor(w+".ignore", "Patterns as in .dockerignore, relative to path. What the build's .dockerignore leaves out, .git, and editors' temporary files are ignored anyway."),
		honor(w+".include", "Patterns as in .dockerignore, relative to path: only what matches one is watched."),
		honor(w+".initial_sync", "Everything below path is synced to each new instance, not only what changed."),
		honor(e, "What sync+exec runs in each instance afterwards."),
		honor(e+".command", "The command and its arguments."),
		honor(e+".user", "As this user."),
		honor(e+".working_dir", "In this folder."),
		honor(e+".environment", "With these variables."),
		anyway(e+".privileged", "false.").
			butWarned("true", is("true"), "The command has no more than its instance has.", "leave privileged out, and say cap_add for the service"),
	}
}
