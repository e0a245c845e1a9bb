package compose

// deployRows are the keys of deploy.
func deployRows() []row {
	const d = "services.*.deploy."
	const u, b, p = d + "update_config.", d + "rollback_config.", d + "restart_policy."
	rollback := "A rollback is a rollout like any other, and goes as update_config says."
	leaveRollback := "write it in update_config"
	gpus := "Maru does not hand out GPUs."
	gpuDevices := "name the device nodes under devices, with a grant"
	return []row{
		honor("services.*.deploy", "How the service is deployed."),
		honor(d+"mode", "replicated is the default; global is one instance, for there is one machine; replicated-job and global-job run to their end, once per release."),
		honor(d+"endpoint_mode", "vip gives one address for the service, dnsrr those of its instances."),
		honor(d+"replicas", "How many instances run."),
		honor(d+"labels", "Added to the service's labels."),

		honor(d+"update_config", "How the service moves from one release to the next. Every release is proven ready before it gets traffic, and goes back by itself when it does not become so."),
		honor(u+"parallelism", "How many instances are started at once; 0, and without it, all."),
		honor(u+"delay", "The wait between two batches."),
		honor(u+"failure_action", "rollback is the default; pause leaves things as they are when the rollout failed.").
			butWarned("continue", is("continue"), "Maru never goes on past an instance that failed: it rolls back.", "use rollback or pause"),
		honor(u+"monitor", "A crash this soon after an instance became ready fails the rollout."),
		warnOf(u+"max_failure_ratio", "One failed instance fails the rollout.", "leave max_failure_ratio out"),
		honor(u+"order", "start-first is the default, but for services with a writable volume: those stop first. For them start-first says that instances may share it."),

		warnOf(d+"rollback_config", rollback, leaveRollback).all(),

		honor(d+"resources", "Limits and reservations of each instance."),
		honor(d+"resources.limits", "What an instance can't exceed."),
		honor(d+"resources.limits.cpus", "In cores."),
		honor(d+"resources.limits.memory", "An instance that needs more is ended, and maru status says so."),
		honor(d+"resources.limits.pids", "Processes and threads; without it 4096."),
		honor(d+"resources.reservations", "What an instance gets under pressure."),
		honor(d+"resources.reservations.cpus", "Its share when the processor is busy, in cores."),
		honor(d+"resources.reservations.memory", "Memory that is protected when the machine runs short."),
		refuse(d+"resources.reservations.generic_resources", "Maru counts no resources but processor and memory.",
			"leave generic_resources out").all(),
		refuse(d+"resources.reservations.devices", gpus, gpuDevices).all(),

		honor(d+"restart_policy", "When an instance that ended is started again. It wins over restart."),
		honor(p+"condition", "none, on-failure or any, which is the default here."),
		honor(p+"delay", "The first wait; it grows from there. The very first restart is at once."),
		honor(p+"max_attempts", "Restarts until Maru gives up; without it, and with 0, no limit."),
		honor(p+"window", "Running this long forgets the failures before."),

		warnOf(d+"placement", "There is one machine to place instances on.", "leave placement out").all(),
		refuse("services.*.gpus", gpus, gpuDevices).all(),
	}
}

// limitRows are the keys that bound what a container uses.
func limitRows() []row {
	const s = "services.*."
	deviceLimit := "Maru does not limit single devices."
	leave := "leave it out, or give services different weights with blkio_config.weight"
	realtime := "Maru gives no real-time scheduling."
	return []row{
		honor(s+"cpus", "The limit in cores."),
		warnOf(s+"cpu_count", "Counts processors on Windows only.", "use cpus"),
		warnOf(s+"cpu_percent", "Limits processors on Windows only.", "use cpus"),
		honor(s+"cpu_shares", "The weight against other containers when the processor is busy."),
		honor(s+"cpu_quota", "With cpu_period, the limit in cores: their quotient."),
		honor(s+"cpu_period", "With cpu_quota, the limit in cores: their quotient. Without it 100000."),
		warnOf(s+"cpu_rt_runtime", realtime, "leave cpu_rt_runtime out, or reserve a share with deploy.resources.reservations.cpus"),
		warnOf(s+"cpu_rt_period", realtime, "leave cpu_rt_period out, or reserve a share with deploy.resources.reservations.cpus"),
		honor(s+"cpuset", "The processors it may use."),
		honor(s+"mem_limit", "The limit of memory."),
		honor(s+"mem_reservation", "Memory that is protected when the machine runs short."),
		honor(s+"memswap_limit", "Memory and swap together; -1 without limit. Without it an instance does not swap."),
		warnOf(s+"mem_swappiness", "How eagerly a container swaps can't be set on machines of today.", "leave mem_swappiness out: without memswap_limit it does not swap"),
		honor(s+"oom_kill_disable", "Out of memory, it is stopped until there is some."),
		honor(s+"oom_score_adj", "Who is ended first when the machine is out of memory."),
		honor(s+"pids_limit", "Processes and threads; -1 without limit, and without it 4096."),
		honor(s+"shm_size", "Size of /dev/shm; without it 64 MiB."),
		honor(s+"ulimits", "Limits of the processes."),
		honor(s+"ulimits.*.soft", "The limit in force."),
		honor(s+"ulimits.*.hard", "How far a process may raise it."),
		honor(s+"blkio_config", "The share of disk input and output."),
		honor(s+"blkio_config.weight", "The weight against other containers, 10 to 1000."),
		warnOf(s+"blkio_config.weight_device", deviceLimit, leave).all(),
		warnOf(s+"blkio_config.device_read_bps", deviceLimit, leave).all(),
		warnOf(s+"blkio_config.device_read_iops", deviceLimit, leave).all(),
		warnOf(s+"blkio_config.device_write_bps", deviceLimit, leave).all(),
		warnOf(s+"blkio_config.device_write_iops", deviceLimit, leave).all(),
	}
}
