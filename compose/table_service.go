package compose

// containerRows are the keys that say what runs in a container, and how.
func containerRows() []row {
	const s = "services.*."
	return []row{
		honor(s+"image", "The image, pulled by digest. With build, the name of what is built."),
		honor(s+"platform", "Which of the image's platforms."),
		honor(s+"pull_policy", "always looks the image up at each deploy, missing (the default) only when it is not there, never does not, build builds it.").
			butWarned("daily, weekly, every_…, refresh", func(n *node) bool { return isNot("always", "never", "missing", "if_not_present", "build")(n) },
				"Images are looked up when the app is deployed, never by themselves: this is always.", "use always"),
		warnOf(s+"pull_refresh_after", "Images are looked up when the app is deployed, never by themselves.", "use pull_policy: always"),
		honor(s+"entrypoint", "In place of the image's entry point; the image's command goes with it."),
		honor(s+"command", "In place of the image's command."),
		honor(s+"environment", "Over the image's variables. A name without a value takes the one where the deploy is started."),
		honor(s+"env_file", "Variables from files where the deploy is started; environment wins over them."),
		honor(s+"env_file.path", "The file."),
		honor(s+"env_file.required", "Whether it must be there."),
		honor(s+"env_file.format", "raw takes values as they stand, without quotes or variables."),
		honor(s+"working_dir", "Where the program starts."),
		honor(s+"user", "As whom it runs."),
		honor(s+"group_add", "Further groups of that user."),
		honor(s+"init", "A small program as process 1 hands on signals and reaps what is left behind."),
		honor(s+"tty", "The program has a terminal."),
		honor(s+"stdin_open", "Its standard input stays open."),
		honor(s+"read_only", "The root file system can't be written to."),
		honor(s+"stop_signal", "What tells the program to end; without it the image's, else SIGTERM."),
		honor(s+"stop_grace_period", "How long it has to; without it 10 s. Before the signal an instance is taken out of the routes and drained."),
		honor(s+"labels", "Kept with the service. Labels that configure Traefik have no effect, and a warning says what to write instead."),
		honor(s+"label_file", "Labels from files where the deploy is started."),
		honor(s+"annotations", "Given to the container runtime."),
		honor(s+"sysctls", "Kernel parameters of the container's own namespaces."),
		warnOf(s+"umask", "Programs start with the umask 022.", "set it in the entry point: sh -c 'umask 077; exec PROGRAM'"),

		honor(s+"healthcheck", "Asked for readiness and for life: an instance gets traffic when it passes, and is restarted when it fails. The image's own HEALTHCHECK is not used."),
		honor(s+"healthcheck.test", "CMD, CMD-SHELL, or NONE."),
		honor(s+"healthcheck.interval", "Between two questions; without it 30 s. Until an instance is first ready it is asked more often."),
		honor(s+"healthcheck.timeout", "For one answer; without it 30 s."),
		honor(s+"healthcheck.retries", "Failures in a row until it counts as failed; without it 3."),
		honor(s+"healthcheck.start_period", "Failures don't count at first. Maru adds the time that retries at the interval would take, because it asks more often then."),
		honor(s+"healthcheck.start_interval", "Between two questions until it is first ready; without it from 10 ms growing to 1 s."),
		honor(s+"healthcheck.disable", "As without a healthcheck."),

		honor(s+"restart", `no, on-failure, on-failure:N, always and unless-stopped, which is always. Without it, a service that has a port, a route or x-maru.health is always restarted, any other on failure.`),
		honor(s+"depends_on", "It is started when the others are as far as the condition says."),
		honor(s+"depends_on.*.condition", "service_started, service_healthy (ready), or service_completed_successfully, which makes the other a job unless its restart says that it goes on."),
		honor(s+"depends_on.*.restart", "It is restarted when the other was updated."),
		honor(s+"depends_on.*.required", "With false it is waited for only if it is part of the app."),
		honor(s+"scale", "How many instances run; deploy.replicas says the same."),
		honor(s+"profiles", "The service is part of the app only when one of its profiles is on."),
		honor(s+"extends", "Takes over what another service says."),
		honor(s+"extends.service", "The other service."),
		honor(s+"extends.file", "The file it is in."),
		honor(s+"container_name", "A further name of the service on its networks. Instances have names of Maru's own."),
		anyway(s+"attach", "maru deploy shows progress, not logs; maru logs shows those."),
	}
}

// hostRows are the keys that reach into the host, or concern its runtime.
func hostRows() []row {
	const s = "services.*."
	own := "Maru gives each instance a namespace of its own, which no other shares."
	return []row{
		honor(s+"privileged", "All capabilities and devices; needs a grant."),
		honor(s+"cap_add", "Capabilities beyond Docker's set without NET_RAW; needs a grant."),
		honor(s+"cap_drop", "Capabilities to go without."),
		honor(s+"devices", "Device nodes of the host; needs a grant."),
		honor(s+"devices.source", "The node on the host."),
		honor(s+"devices.target", "Where the container has it."),
		honor(s+"devices.permissions", "Of r, w and m; without it all."),
		refuse(s+"device_cgroup_rules", "Devices are allowed one by one.", "name them under devices, with a grant"),
		honor(s+"security_opt", "seccomp, apparmor and label options; needs a grant. no-new-privileges is always so.").
			butRefused("credentialspec…", anyItem(begins("credentialspec")), "Credential specs are for Windows.", "leave it out"),
		honor(s+"pid", "host; needs a grant.").
			butRefused("service:NAME and container:NAME", begins("service:", "container:"), own, "use host, with a grant, or run both programs in one container"),
		honor(s+"ipc", "host, which needs a grant; private is so anyway.").
			butRefused("shareable, service:NAME and container:NAME", func(n *node) bool { return is("shareable")(n) || begins("service:", "container:")(n) },
				own, "use host, with a grant, or run both programs in one container").
			butWarned("none", is("none"), "The container has a namespace of its own all the same, with /dev/shm.", "leave ipc out"),
		refuse(s+"uts", "Maru gives each instance a host name of its own.", "set hostname"),
		honor(s+"userns_mode", "host: root in the container is root outside; needs a grant.").
			butRefused("any other", isNot("host"), "Maru knows no such user namespace.", "use host, or leave userns_mode out"),
		anyway(s+"cgroup", "private: the container sees its own cgroup only.").
			butRefused("host", is("host"), own, "leave cgroup out"),
		honor(s+"cgroup_parent", "The cgroup that instances are put under; needs a grant."),
		anyway(s+"runtime", "runc.").
			butRefused("any other", isNot("runc", "io.containerd.runc.v2"), "Maru runs containers with runc.", "leave runtime out"),
		anyway(s+"isolation", "default, which is by namespaces.").
			butRefused("any other", isNot("default"), "It is for Windows.", "leave isolation out"),
		refuse(s+"credential_spec", "Credential specs are for Windows.", "leave credential_spec out").all(),
		refuse(s+"use_api_socket", "Maru is not Docker: there is no Docker API for the container to speak to.", "give it a token for Maru's API"),
		warnOf(s+"storage_opt", "A container's own layer has no limit.", "keep data on a volume or a tmpfs with a size").all(),
		honor(s+"logging", "Maru keeps what instances write to standard output and error, and shows it with maru logs."),
		anyway(s+"logging.driver", "json-file and local: logs are kept by Maru.").
			butWarned("none", is("none"), "Logs are kept by Maru all the same.", "leave driver out").
			butWarned("any other", isNot("json-file", "local", "none"), "Logs are kept by Maru, and not handed on.", "leave driver out, and read them with maru logs or its API"),
		anyway(s+"logging.options", "Maru rotates logs by size and age itself, whatever max-size, max-file and compress say.").
			butWarned("others than max-size, max-file, compress and mode", otherLogOptions, "Maru keeps logs itself, and has no use for the driver's options.", "leave options out").all(),
		refuse(s+"models", "Maru does not run language models.",
			"run the model's server as a service, and give its address in environment").all(),
		refuse(s+"provider", "Managed backing services are not done yet.",
			"run it as a service of its own, with an image and a volume").all(),
		refuse(s+"pre_start", "Maru runs nothing before an instance starts.",
			"use x-maru.release for what runs once per release, or a service that this one waits for with service_completed_successfully").all(),
		refuse(s+"post_start", "Maru runs nothing after an instance started.", "let the entry point do it").all(),
		refuse(s+"pre_stop", "Maru runs nothing before an instance stops: it takes it out of the routes, drains it, and sends stop_signal.",
			"let the program do it when it gets the signal").all(),
	}
}

// serviceRows are the keys of configs and secrets in a service.
func serviceRows() []row {
	const c, x = "services.*.configs", "services.*.secrets"
	return []row{
		honor(c, "Files with the configs' content."),
		honor(c+".source", "The config."),
		honor(c+".target", "The path; without it /SOURCE."),
		honor(c+".uid", "Who owns it, as a number; without it 0."),
		honor(c+".gid", "Its group, as a number; without it 0."),
		honor(c+".mode", "Its mode; without it 0444."),
		honor(x, "Files with the secrets' values, in memory."),
		honor(x+".source", "The secret."),
		honor(x+".target", "The path, or the name in /run/secrets; without it the source."),
		honor(x+".uid", "Who owns it, as a number; without it 0."),
		honor(x+".gid", "Its group, as a number; without it 0."),
		honor(x+".mode", "Its mode; without it 0444, so that a program that steps down from root can read it."),
	}
}

// mountRows are the keys of mounts.
func mountRows() []row {
	const v = "services.*.volumes"
	return []row{
		honor(v, "What is mounted: volumes, folders of the host, tmpfs, images. A named volume starts as a copy of what the image has there, and has one holder at a time."),
		honor(v+".type", "volume, bind, tmpfs or image.").
			butRefused("npipe and cluster", is("npipe", "cluster"), "Maru has no mounts of this type.", "use volume, bind, tmpfs or image"),
		honor(v+".source", "A volume's key, a path of the host, or an image. A volume without one is the service's own."),
		honor(v+".target", "Where it is mounted."),
		honor(v+".read_only", "It can't be written to through this mount."),
		anyway(v+".consistency", "Mounts are always consistent."),
		honor(v+".bind", "Of a bind mount, which needs a grant; a remote server refuses it."),
		honor(v+".bind.propagation", "How mounts made later are seen."),
		honor(v+".bind.create_host_path", "The folder is made if it is missing."),
		anyway(v+".bind.recursive", "Mounts below the folder come with it.").
			butWarned("disabled, writable, readonly", is("disabled", "writable", "readonly"), "Mounts below the folder come with it, as they are.", "leave recursive out"),
		anyway(v+".bind.selinux", "Maru does not confine containers by SELinux labels, so nothing needs a new one."),
		honor(v+".volume", "Of a volume."),
		warnOf(v+".volume.labels", "Labels belong to the volume as a whole.", "write them under the top-level volumes"),
		honor(v+".volume.nocopy", "It starts empty, whatever the image has there."),
		honor(v+".volume.subpath", "A folder in the volume."),
		honor(v+".tmpfs", "Of a tmpfs."),
		honor(v+".tmpfs.size", "How large it can grow."),
		honor(v+".tmpfs.mode", "Its mode."),
		honor(v+".image", "Of an image."),
		honor(v+".image.subpath", "A folder in the image."),
		honor("services.*.tmpfs", "Paths with memory for a file system; size and mode can follow, as in /run:size=64m,mode=1777."),
		honor("services.*.volumes_from", "The mounts of another service as well; with :ro they can't be written to.").
			butRefused("container:NAME", anyItem(begins("container:")), "Maru knows no containers but those of its apps.", "name the volume in both services"),
	}
}

// anyItem tells whether a list has an item of the kind.
func anyItem(when func(*node) bool) func(*node) bool {
	return func(n *node) bool {
		for _, item := range n.list().items {
			if when(item) {
				return true
			}
		}
		return false
	}
}

func otherLogOptions(n *node) bool {
	for _, name := range n.names {
		switch name {
		case "max-size", "max-file", "compress", "mode", "max-buffer-size":
		default:
			return true
		}
	}
	return false
}
