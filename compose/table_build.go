package compose

// buildRows are the keys of builds.
func buildRows() []row {
	const b = "services.*.build."
	return []row{
		honor("services.*.build", "The image is built from source, by Maru's own BuildKit. Without a Dockerfile, a Go program is built straight to an image."),
		honor(b+"context", "A folder, or a Git repository's address."),
		honor(b+"dockerfile", "The Dockerfile in the context."),
		honor(b+"dockerfile_inline", "The Dockerfile itself."),
		honor(b+"args", "Build arguments; those without a value take the variable's."),
		refuse(b+"ssh", "Maru's builder has no access to your SSH agent.", "give the build a key or token as a secret: RUN --mount=type=secret"),
		honor(b+"labels", "Labels of the image."),
		honor(b+"cache_from", "Images and caches to take steps from, beside the builder's own cache."),
		warnOf(b+"cache_to", "The builder keeps its cache itself.", "leave cache_to out"),
		honor(b+"no_cache", "Nothing is taken from the cache."),
		honor(b+"no_cache_filter", "With it nothing is taken from the cache for any stage."),
		honor(b+"additional_contexts", "Folders, Git repositories, and docker-image://NAME."),
		honor(b+"network", "none, host or default.").
			butRefused("any other", isNot("none", "host", "default"), "A build can't join an app's network: apps are not there when images are built.",
				"use default, and fetch what the build needs from outside"),
		warnOf(b+"provenance", "Images that stay on the machine get no attestations.", "leave provenance out"),
		warnOf(b+"sbom", "Images that stay on the machine get no attestations.", "leave sbom out"),
		honor(b+"pull", "Base images are looked up anew."),
		honor(b+"target", "The stage that is the image."),
		honor(b+"shm_size", "Size of /dev/shm for build steps."),
		honor(b+"extra_hosts", "Lines of /etc/hosts for build steps."),
		warnOf(b+"isolation", "Builds are isolated by containers, always.", "leave isolation out"),
		refuse(b+"privileged", "Build steps have no privileges on the machine.", "do what needs them when the service runs, with a grant"),
		refuse(b+"entitlements", "Build steps have no privileges on the machine.", "do what needs them when the service runs, with a grant"),
		honor(b+"secrets", "Build steps can mount them; they are in no layer of the image."),
		honor(b+"secrets.source", "The secret."),
		honor(b+"secrets.target", "The id that RUN --mount=type=secret,id=… names; without it, the source."),
		warnOf(b+"secrets.uid", "The RUN line that mounts the secret says who owns it.", "write RUN --mount=type=secret,id=…,uid=…"),
		warnOf(b+"secrets.gid", "The RUN line that mounts the secret says who owns it.", "write RUN --mount=type=secret,id=…,gid=…"),
		warnOf(b+"secrets.mode", "The RUN line that mounts the secret says its mode.", "write RUN --mount=type=secret,id=…,mode=…"),
		honor(b+"tags", "Further names of the image on this machine."),
		honor(b+"ulimits", "Limits of build steps."),
		honor(b+"ulimits.*.soft", "The limit in force."),
		honor(b+"ulimits.*.hard", "How far a step may raise it."),
		honor(b+"platforms", "What the image is built for."),
	}
}
