package compose

// topRows are the keys at the top of a file, and those of volumes, configs and secrets.
func topRows() []row {
	return []row{
		anyway("version", "Ignored, as the specification says; it can go."),
		honor("name", "The app's name."),
		honor("include", "The included files are part of the app."),
		honor("include.path", "Files on this machine."),
		honor("include.env_file", "Gives values to variables in the included files."),
		honor("include.project_directory", "What relative paths in the included files are relative to."),
		honor("services", "The services of the app."),
		honor("networks", "The networks of the app: who reaches whom."),
		honor("volumes", "The volumes of the app. A volume belongs to the app in its environment."),
		honor("secrets", "Secrets are kept encrypted on the server; instances have them in memory only."),
		honor("configs", "Configs are part of the release that uses them."),
		refuse("models", "Maru does not run language models.",
			"run the model's server as a service, and give its address to the others in their environment").all(),
		refuse("jobs", "Maru does not run jobs of this form yet.",
			`write a service with restart: "no" that others wait for with service_completed_successfully, or start it by hand with maru run`).all(),

		honor("volumes.*.name", "The name of an external volume in the environment.").
			butWarned("without external", elsewhere, "Only an external volume has a name of its own; this one is called by its key, within the app.",
				"leave name out, or share the volume between apps with external: true"),
		honor("volumes.*.driver", "local, which is the default.").butRefused("any other", isNot("local", "default"),
			"Maru has no volume drivers: volumes are folders of the machine, which it backs up and restores.",
			"leave driver out; to use a file system of the host, mount it there and bind its path"),
		honor("volumes.*.driver_opts", "Of the local driver: {o: bind, device: PATH} is a bind mount, {type: tmpfs} a tmpfs."),
		honor("volumes.*.external", "The volume belongs to the environment, and apps share it under its name."),
		honor("volumes.*.external.name", "The name of an external volume; write name instead."),
		honor("volumes.*.labels", "Kept with the volume."),

		honor("secrets.*.name", "The name on the server; without it the key."),
		honor("secrets.*.environment", "The value is that of a variable where the deploy is started."),
		honor("secrets.*.file", "The value is the content of a file where the deploy is started."),
		honor("secrets.*.external", "The value was set on the server, by maru secret set."),
		honor("secrets.*.external.name", "The name on the server; write name instead."),
		warnOf("secrets.*.labels", "Secrets have no labels here.", "leave labels out"),
		refuse("secrets.*.driver", "Maru has no secret drivers: it keeps secrets itself, encrypted.",
			"use file, environment, or external: true and maru secret set"),
		refuse("secrets.*.driver_opts", "Maru has no secret drivers: it keeps secrets itself, encrypted.",
			"use file, environment, or external: true and maru secret set").all(),
		refuse("secrets.*.template_driver", "Maru puts secrets into files as they are, without templates.",
			"let the program put the parts together, or write the whole file as one secret"),

		honor("configs.*.name", "The name of an external config on the server.").
			butWarned("without external", elsewhere, "Only an external config has a name of its own; this one is part of the release.", "leave name out"),
		honor("configs.*.content", "The content, with its variables replaced."),
		honor("configs.*.environment", "The content is the value of a variable where the deploy is started."),
		honor("configs.*.file", "The content of a file where the deploy is started."),
		honor("configs.*.external", "The content was set on the server."),
		honor("configs.*.external.name", "The name on the server; write name instead."),
		warnOf("configs.*.labels", "Configs have no labels here.", "leave labels out"),
		refuse("configs.*.template_driver", "Maru puts configs into files as they are, without templates.",
			"use content: with ${VARIABLES}"),
	}
}
